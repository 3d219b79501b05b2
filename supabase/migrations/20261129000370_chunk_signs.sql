-- What the quality of a chunk is made of, and what each rule of prompt injection found in it.

alter table public.chunks
  add column quality_factors jsonb,
  add column injection_scores jsonb not null default '{}';
comment on column public.chunks.quality_factors is
  'Each 0-1, of quality_score: 0.30 length + 0.25 vocabulary + 0.20 structure + 0.25 coherence; null: made before they were kept.';
comment on column public.chunks.injection_scores is
  'Rule -> what it adds. From a sum of 1 on the rules are in injection_flags, and pairs are made of the chunk only when asked for.';

alter table public.documents add column flagged_chunk_count integer not null default 0;
comment on column public.documents.flagged_chunk_count is 'How many of its chunks seem to speak to a language model.';
update public.documents d set flagged_chunk_count =
  (select count(*) from public.chunks k where k.document_id = d.id and k.injection_flags <> '{}');

create or replace function public.save_document_chunks(
  p_document_id uuid, p_lease_token uuid, p_content_hash text, p_chunks jsonb
) returns boolean language plpgsql set search_path = '' as $$
declare
  document public.documents;
begin
  select * into document from public.documents where id = p_document_id and lease_token = p_lease_token for update;
  if not found then
    return false;
  end if;
  delete from public.chunks where document_id = p_document_id;
  insert into public.chunks (document_id, project_id, ordinal, content, content_hash, char_start, char_end,
      heading_path, token_count, quality_score, quality_factors, injection_flags, injection_scores, is_duplicate,
      duplicate_of)
    select p_document_id, document.project_id, c.ordinal, c.content, c.content_hash, c.char_start, c.char_end,
      c.heading_path, c.token_count, c.quality_score, c.quality_factors, c.injection_flags,
      coalesce(c.injection_scores, '{}'), first.id is not null, first.id
    from jsonb_to_recordset(p_chunks) as c (ordinal integer, content text, content_hash text, char_start integer,
      char_end integer, heading_path text[], token_count integer, quality_score real, quality_factors jsonb,
      injection_flags text[], injection_scores jsonb)
    left join lateral (
      select k.id from public.chunks k
      where k.project_id = document.project_id and k.content_hash = c.content_hash and not k.is_duplicate
      order by k.created_at limit 1
    ) first on true;
  update public.documents set status = 'ready', error = null, content_hash = p_content_hash,
      lease_token = null, lease_expires_at = null,
      chunk_count = jsonb_array_length(p_chunks),
      flagged_chunk_count = (
        select count(*) from public.chunks k where k.document_id = p_document_id and k.injection_flags <> '{}'),
      token_count = (select coalesce(sum(k.token_count), 0) from public.chunks k where k.document_id = p_document_id)
    where id = p_document_id;
  return true;
end $$;
