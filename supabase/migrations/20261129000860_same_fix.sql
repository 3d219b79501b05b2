-- What one edit replaced, replaced in all pairs of the dataset that have it too.

-- What differs between two texts: [old, new] without their common beginning and end, to whole words. null when the
-- new text only adds: then no other text can have what it replaced.
create function private.replaced_fragment(old_text text, new_text text) returns text[]
language plpgsql immutable set search_path = '' as $$
declare
  shorter integer := least(length(old_text), length(new_text));
  head integer := 0; -- characters of the common beginning
  tail integer := 0; -- and of the common end
  beyond integer := shorter + 1;
  middle integer;
begin
  while beyond - head > 1 loop
    middle := (head + beyond) / 2;
    if left(old_text, middle) = left(new_text, middle) then head := middle; else beyond := middle; end if;
  end loop;
  beyond := shorter - head + 1;
  while beyond - tail > 1 loop
    middle := (tail + beyond) / 2;
    if right(old_text, middle) = right(new_text, middle) then tail := middle; else beyond := middle; end if;
  end loop;
  -- A word that is cut in one of the two belongs to the difference as a whole.
  if substr(old_text, head, 2) ~ '^\w\w' or substr(new_text, head, 2) ~ '^\w\w' then
    head := length(regexp_replace(left(old_text, head), '\w+$', ''));
  end if;
  if left(right(old_text, tail + 1), 2) ~ '^\w\w' or left(right(new_text, tail + 1), 2) ~ '^\w\w' then
    tail := length(regexp_replace(right(old_text, tail), '^\w+', ''));
  end if;
  if head + tail >= length(old_text) then
    return null;
  end if;
  return array[substr(old_text, head + 1, length(old_text) - head - tail),
    substr(new_text, head + 1, length(new_text) - head - tail)];
end $$;

-- What an edit replaced, turn by turn: [{role, old, new, pattern}]. A fragment of under three characters fits
-- everywhere, so it is no fix; an edit that adds or takes away turns is none either. The pattern finds the fragment as
-- it is written; inside a longer word it is not one.
create function private.fix_of(step public.pair_revisions) returns jsonb
language sql immutable set search_path = '' as $$
  with turns as (
    select private.turns_of(jsonb_populate_record(null::public.training_pairs, step.before)) as old_turns,
      private.turns_of(jsonb_populate_record(null::public.training_pairs, step.after)) as new_turns
  )
  select coalesce(jsonb_agg(jsonb_build_object('role', o.turn ->> 'role', 'old', f[1], 'new', f[2], 'pattern',
      case when f[1] ~ '^\w' then '(?<!\w)' else '' end || regexp_replace(f[1], '([^\w\s])', '\\\1', 'g')
        || case when f[1] ~ '\w$' then '(?!\w)' else '' end) order by place), '[]')
  from turns
  cross join jsonb_array_elements(old_turns) with ordinality o (turn, place)
  join jsonb_array_elements(new_turns) with ordinality n (turn, place) using (place)
  cross join lateral private.replaced_fragment(o.turn ->> 'content', n.turn ->> 'content') f
  where jsonb_array_length(old_turns) = jsonb_array_length(new_turns) and o.turn ->> 'role' = n.turn ->> 'role'
    and length(trim(f[1])) >= 3
$$;

create function private.with_part_fixed(content text, part jsonb) returns text
language sql immutable set search_path = '' as $$
  select regexp_replace(content, part ->> 'pattern', replace(part ->> 'new', '\', '\\'), 'g')
$$;

-- The pair with the fix in all turns of the same role; as it is where it has nothing to fix, or where a turn would
-- be left empty.
create function private.fixed_pair(pair public.training_pairs, fix jsonb) returns public.training_pairs
language plpgsql immutable set search_path = '' as $$
declare
  fixed public.training_pairs := pair;
  part jsonb;
begin
  for part in select value from jsonb_array_elements(fix) loop
    if pair.messages is not null then
      fixed.messages := (
        select jsonb_agg(case when turn ->> 'role' <> part ->> 'role' then turn else jsonb_set(turn, '{content}',
          to_jsonb(private.with_part_fixed(turn ->> 'content', part))) end
          order by place)
        from jsonb_array_elements(fixed.messages) with ordinality t (turn, place));
    elsif part ->> 'role' = 'system' then
      fixed.system_message := private.with_part_fixed(fixed.system_message, part);
    elsif part ->> 'role' = 'user' then
      fixed.user_message := private.with_part_fixed(fixed.user_message, part);
    else
      fixed.assistant_message := private.with_part_fixed(fixed.assistant_message, part);
    end if;
  end loop;
  if exists (select from jsonb_array_elements(private.turns_of(fixed)) t where t ->> 'content' ~ '^\s*$') then
    return pair;
  end if;
  return fixed;
end $$;

-- Every other pair of the dataset that has what was replaced. Written out, because a hundred thousand calls of a
-- function take seconds.
create function private.pairs_with_fragment(p_dataset_id uuid, p_pair_id uuid, fix jsonb) returns setof uuid
language sql stable rows 1000 set search_path = '' as $$
  select p.id from public.training_pairs p
  where p.dataset_id = p_dataset_id and p.id <> p_pair_id and exists (
    select from jsonb_to_recordset(fix) as part (role text, old text, pattern text)
    where case
      when p.messages is not null then exists (
        select from jsonb_array_elements(p.messages) turn
        where turn ->> 'role' = part.role and turn ->> 'content' ~ part.pattern)
      when part.role = 'system' then strpos(p.system_message, part.old) > 0 and p.system_message ~ part.pattern
      when part.role = 'user' then strpos(p.user_message, part.old) > 0 and p.user_message ~ part.pattern
      else strpos(p.assistant_message, part.old) > 0 and p.assistant_message ~ part.pattern end)
  order by p.created_at, p.ordinal, p.id
$$;

-- What the last edit of a pair that was not taken back replaced; [] where nothing was.
create function private.last_fix(p_pair_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce((
    select private.fix_of(r) from public.pair_revisions r
    where r.pair_id = p_pair_id and r.action = 'edit'
      and not exists (select from public.pair_revisions u where u.undoes = r.id)
    order by r.revision desc limit 1), '[]')
$$;

create function private.apply_fix(p_pair_id uuid, p_preview boolean) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  most constant integer := 2000; -- as in review_pairs; more is done for each
  shown constant integer := 20;
  dataset public.training_datasets := private.dataset_of_pair(p_pair_id);
  fix jsonb := private.last_fix(p_pair_id);
  batch uuid := gen_random_uuid();
  ids uuid[];
  changed integer := 0;
  examples jsonb;
begin
  if fix = '[]' then
    perform private.refuse(422, 'no_fix', 'The last edit of this pair replaced nothing that other pairs could have.',
      'A fix is a text of three characters or more that was replaced. A text that was only added is none.');
  end if;
  ids := array(select private.pairs_with_fragment(dataset.id, p_pair_id, fix));
  select jsonb_agg(jsonb_build_object('pair_id', p.id, 'before', private.turns_of(p),
      'after', private.turns_of(private.fixed_pair(p, fix)))) into examples
    from public.training_pairs p where p.id in (select unnest(ids[1:shown]));
  if not p_preview then
    insert into public.pair_revisions (pair_id, dataset_id, project_id, revision, batch_id, action, before, after)
      select p.id, dataset.id, dataset.project_id, p.revision + 1, batch, 'edit', private.edited_columns(p),
        private.edited_columns(private.after_edit(p, fixed))
      from public.training_pairs p cross join lateral private.fixed_pair(p, fix) fixed
      where p.id in (select unnest(ids[1:most])) and fixed is distinct from p;
    changed := private.apply_batch(batch, dataset.id);
    perform private.judge_sample(batch, dataset.id, 'bad');
  end if;
  return jsonb_build_object('fix', fix, 'batch_id', case when changed > 0 then batch end,
    'matched', cardinality(ids), 'changed', changed, 'examples', coalesce(examples, '[]'));
end $$;

-- Pairs that may have what was wrong with this one. The issues are those before its last edit, which takes them away.
create function private.similar_pairs(p_pair_id uuid, p_limit integer)
returns table (pair_id uuid, same_issues boolean, same_fragment boolean)
language sql stable security definer set search_path = '' as $$
  with this as (
    select p.id, p.dataset_id, private.last_fix(p.id) as fix, coalesce((
      select array(select jsonb_array_elements_text(r.before -> 'issues') order by 1) from public.pair_revisions r
      where r.pair_id = p.id and r.action = 'edit' and r.before -> 'issues' <> '[]'
      order by r.revision desc limit 1), array(select unnest(p.issues) order by 1)) as issues
    from public.training_pairs p where p.id = p_pair_id and p.project_id in (select private.my_projects())
  ), alike as (
    select p.id, p.created_at, p.ordinal, true as same_issues, false as same_fragment
    from this join public.training_pairs p on p.dataset_id = this.dataset_id and p.id <> this.id
    where p.issues <> '{}' and array(select unnest(p.issues) order by 1) = this.issues
    union all
    select p.id, p.created_at, p.ordinal, false, true
    from this cross join lateral private.pairs_with_fragment(this.dataset_id, this.id, this.fix) f (id)
    join public.training_pairs p on p.id = f.id where this.fix <> '[]'
  )
  select id, bool_or(alike.same_issues), bool_or(alike.same_fragment) from alike
  group by id, created_at, ordinal order by created_at, ordinal, id limit least(p_limit, 1000)
$$;

create function public.apply_fix(p_pair_id uuid, p_preview boolean default true) returns jsonb
language sql set search_path = '' as $$
  select private.apply_fix(p_pair_id, p_preview)
$$;
comment on function public.apply_fix(uuid, boolean) is
  'For editors: what the last edit of this pair replaced, replaced in all other pairs of the dataset, as whole words'
  ' and in turns of the same role. {fix, matched, changed, batch_id, examples}; a preview changes nothing. At most'
  ' 2,000 pairs change in a call.';
create function public.similar_pairs(p_pair_id uuid, p_limit integer default 100)
returns table (pair_id uuid, same_issues boolean, same_fragment boolean)
language sql stable set search_path = '' as $$
  select * from private.similar_pairs(p_pair_id, p_limit)
$$;
comment on function public.similar_pairs(uuid, integer) is
  'Pairs of the dataset with the same issues, or with a text that the last edit of this pair replaced.';
revoke execute on function public.apply_fix(uuid, boolean), public.similar_pairs(uuid, integer) from public, anon;
grant execute on function public.apply_fix(uuid, boolean), private.apply_fix(uuid, boolean),
  public.similar_pairs(uuid, integer), private.similar_pairs(uuid, integer) to authenticated;
