-- Acceptance certificates: a random sample of a dataset is drawn and judged in review, and at a look that was planned
-- beforehand the dataset is certified, or more of the sample is to be judged.

-- Of the pairs that would be trained on, as they are: without those of a sample, when one is named.
create function private.pairs_hash(p_dataset_id uuid, p_without_sample uuid default null) returns text
language sql stable set search_path = '' as $$
  select md5(coalesce(string_agg(md5(row(p.id, p.kind, p.system_message, p.user_message, p.assistant_message,
    p.rejected_message, p.messages, p.tools, p.is_desirable)::text), '' order by p.id), ''))
  from public.training_pairs p
  where p.dataset_id = p_dataset_id and p.is_valid and p.review_status <> 'rejected'
    and p.id not in (select s.pair_id from public.review_sample_pairs s where s.sample_id = p_without_sample)
$$;

-- Where a sample stands. States: granted, open (`to_review` more to be judged before the next look), refused (no look
-- is left that could grant it), and stale, which goes before the others: pairs that were not drawn have changed, or
-- after a certificate any. The bound is that of what was judged so far, at the error of one look.
create function private.sample_standing(sample public.review_samples) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  look jsonb;
  judged integer;
  bad integer;
  state text := 'refused';
  is_stale boolean := case
    when sample.certificate is null then private.pairs_hash(sample.dataset_id, sample.id) <> sample.others_hash
    else private.pairs_hash(sample.dataset_id) <> sample.certified_hash end;
begin
  for look in select value from jsonb_array_elements(sample.looks) loop
    select count(s.verdict), count(*) filter (where s.verdict = 'bad') into judged, bad
      from public.review_sample_pairs s where s.sample_id = sample.id and s.position <= (look -> 'pairs')::integer;
    if bad <= (look -> 'allowed_bad')::integer then
      state := case when judged = (look -> 'pairs')::integer then 'granted' else 'open' end;
      exit;
    end if;
  end loop;
  return jsonb_build_object('sample_id', sample.id, 'state', case when is_stale then 'stale' else state end,
    'max_bad_share', sample.max_bad_share, 'confidence', sample.confidence, 'pairs', sample.pair_count,
    'reviewed', judged, 'bad', bad, 'look', look,
    'to_review', case when state = 'open' then (look -> 'pairs')::integer - judged else 0 end,
    'bad_share_bound', private.most_bad(bad, judged, sample.pair_count, (1 - sample.confidence) / 4)::double precision
      / sample.pair_count,
    'certified_at', sample.certified_at, 'drawn_at', sample.created_at,
    'draws', (select count(*) from public.review_samples a
      where a.dataset_id = sample.dataset_id and a.created_at <= sample.created_at));
end $$;

create function private.draw_sample(
  dataset public.training_datasets, p_max_bad_share double precision, p_confidence double precision
) returns public.review_samples language plpgsql set search_path = '' as $$
declare
  sample public.review_samples;
begin
  select count(*) into sample.pair_count from public.training_pairs p
    where p.dataset_id = dataset.id and p.is_valid and p.review_status <> 'rejected';
  if sample.pair_count = 0 then
    perform private.refuse(422, 'no_pairs', 'The dataset has no valid pair to draw from.');
  end if;
  insert into public.review_samples (dataset_id, project_id, drawn_by, max_bad_share, confidence, pair_count, looks,
      others_hash)
    values (dataset.id, dataset.project_id, auth.uid(), p_max_bad_share, p_confidence, sample.pair_count,
      private.planned_looks(sample.pair_count, p_max_bad_share, p_confidence), '')
    returning * into sample;
  insert into public.review_sample_pairs (sample_id, position, pair_id, project_id)
    select sample.id, row_number() over (), drawn.id, sample.project_id
    from (
      select p.id from public.training_pairs p
      where p.dataset_id = dataset.id and p.is_valid and p.review_status <> 'rejected'
      order by gen_random_uuid() limit (sample.looks -> -1 -> 'pairs')::integer
    ) drawn;
  update public.review_samples set others_hash = private.pairs_hash(dataset.id, sample.id)
    where id = sample.id returning * into sample;
  return sample;
end $$;

create function private.issue_certificate(
  p_dataset_id uuid, p_max_bad_share double precision, p_confidence double precision, p_draw_again boolean
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  shown constant integer := 50;
  dataset public.training_datasets := private.dataset_under_review(p_dataset_id);
  sample public.review_samples;
  standing jsonb;
begin
  if coalesce(p_max_bad_share not between 0.001 and 0.5 or p_confidence not between 0.6 and 0.9999, true) then
    perform private.refuse(422, 'invalid_request', 'max_bad_share is 0.001 to 0.5, confidence 0.6 to 0.9999.');
  end if;
  select * into sample from public.review_samples a
    where a.dataset_id = p_dataset_id and a.max_bad_share = p_max_bad_share and a.confidence = p_confidence
    order by a.created_at desc limit 1;
  if found then
    standing := private.sample_standing(sample);
  end if;
  -- A sample that may still grant it is not drawn anew: trying until one is lucky proves nothing.
  if standing is null or (p_draw_again and standing ->> 'state' in ('stale', 'refused')) then
    sample := private.draw_sample(dataset, p_max_bad_share, p_confidence);
    standing := private.sample_standing(sample);
  end if;
  if standing ->> 'state' = 'granted' and sample.certificate is null then
    update public.review_samples set certificate = standing, certified_at = now(),
        certified_hash = private.pairs_hash(p_dataset_id)
      where id = sample.id returning * into sample;
    standing := private.sample_standing(sample);
  end if;
  return standing || jsonb_build_object('next_pair_ids', (
    select coalesce(jsonb_agg(due.pair_id), '[]') from (
      select s.pair_id from public.review_sample_pairs s
      where s.sample_id = sample.id and s.verdict is null and standing ->> 'state' = 'open'
        and s.position <= (standing -> 'look' -> 'pairs')::integer
      order by s.position limit shown) due));
end $$;

create function public.issue_certificate(
  p_dataset_id uuid, p_max_bad_share double precision default 0.03, p_confidence double precision default 0.95,
  p_draw_again boolean default false
) returns jsonb language sql set search_path = '' as $$
  select private.issue_certificate(p_dataset_id, p_max_bad_share, p_confidence, p_draw_again)
$$;
comment on function public.issue_certificate(uuid, double precision, double precision, boolean) is
  'For editors: draws a sample when there is none, and certifies the dataset when enough of it is judged and good.'
  ' {state: open, granted, refused or stale, reviewed, bad, to_review, bad_share_bound, next_pair_ids, ...}.';

-- What is known without drawing or granting, for every member.
create function private.certificate_standing(p_dataset_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select private.sample_standing(a) from public.review_samples a
  where a.dataset_id = p_dataset_id and a.project_id in (select private.my_projects())
  order by a.created_at desc limit 1
$$;
create function public.certificate_standing(p_dataset_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select private.certificate_standing(p_dataset_id)
$$;
comment on function public.certificate_standing(uuid) is
  'Where the newest sample of a dataset stands, as issue_certificate says it; null: none was drawn, or not a member.';
revoke execute on function public.issue_certificate(uuid, double precision, double precision, boolean),
  public.certificate_standing(uuid) from public, anon;
grant execute on function public.issue_certificate(uuid, double precision, double precision, boolean),
  private.issue_certificate(uuid, double precision, double precision, boolean),
  public.certificate_standing(uuid), private.certificate_standing(uuid) to authenticated;
