-- Chunks that say what another chunk of the project says, or nearly. The first stays the original; those after it
-- are its duplicates, and when it goes the next becomes one. Two documents that come at once are placed one after
-- the other.

alter table public.chunks add column duplicate_similarity real check (duplicate_similarity between 0 and 1);
comment on column public.chunks.is_duplicate is 'Whether an earlier chunk of the project that is kept says it already.';
comment on column public.chunks.duplicate_similarity is
  'With duplicate_of: Jaccard similarity of their three-word shingles, 1 when equal but for case and blanks. null: no duplicate.';
-- A duplicate whose original is gone; it is placed anew in the same transaction.
create index chunks_orphans_idx on public.chunks (project_id) where is_duplicate and duplicate_of is null;

create table private.chunk_sketches (
  chunk_id uuid primary key references public.chunks (id) on delete cascade,
  project_id uuid not null,
  bands bigint[] not null default '{}',
  shingles integer[] not null default '{}',
  least_similarity real not null default 1,
  is_original boolean not null default false
);
comment on table private.chunk_sketches is 'What chunks are compared by; shared/datasets/sketches.py says how it is made.';
comment on column private.chunk_sketches.bands is 'Chunks that share one may be alike; empty: known by content_hash alone.';
comment on column private.chunk_sketches.shingles is 'Hashes of each three words in a row, each once.';
comment on column private.chunk_sketches.least_similarity is 'From which similarity on this chunk is a duplicate.';
comment on column private.chunk_sketches.is_original is 'Whether others are compared with it: placed, and no duplicate.';
-- Without a list of pending entries, which every search would read.
create index chunk_sketches_bands_idx on private.chunk_sketches using gin (bands) with (fastupdate = off);
grant select, insert, update, delete on private.chunk_sketches to service_role;

insert into private.chunk_sketches (chunk_id, project_id, is_original)
  select k.id, k.project_id, not k.is_duplicate from public.chunks k;

create function private.lock_chunks(p_project_id uuid) returns void
language sql volatile set search_path = '' as $$
  select pg_advisory_xact_lock(hashtextextended('chunks of ' || p_project_id, 0))
$$;
comment on function private.lock_chunks(uuid) is
  'Until the transaction ends nobody else places chunks of this project. Taken after the lock on the document''s row.';

create function private.shingle_similarity(one integer[], other integer[]) returns real
language sql immutable set search_path = '' as $$
  select case
    when cardinality(one) = 0 or cardinality(other) = 0 then 0
    else (select count(*)::real / (cardinality(one) + cardinality(other) - count(*))
      from (select unnest(one) intersect select unnest(other)) common)
  end
$$;

-- Each chunk, the earliest first, becomes a duplicate of the original that is most like it, or an original.
create function private.place_chunks(p_chunk_ids uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
declare
  mine record;
  original record;
begin
  update private.chunk_sketches set is_original = false where chunk_id = any (p_chunk_ids) and is_original;
  for mine in
    select k.id, k.project_id, k.content_hash, s.bands, s.shingles, s.least_similarity
    from public.chunks k join private.chunk_sketches s on s.chunk_id = k.id
    where k.id = any (p_chunk_ids) order by k.created_at, k.document_id, k.ordinal
  loop
    select k.id, 1::real as similarity into original
      from public.chunks k join private.chunk_sketches s on s.chunk_id = k.id
      where k.project_id = mine.project_id and k.content_hash = mine.content_hash and s.is_original
      order by k.created_at, k.ordinal limit 1;
    if not found then
      -- Of chunks made after one pattern thousands share a band; those that share the most are compared.
      select c.id, c.similarity into original
        from (
          select s.chunk_id as id, private.shingle_similarity(s.shingles, mine.shingles) as similarity
          from private.chunk_sketches s
          where s.bands && mine.bands and s.project_id = mine.project_id and s.is_original
          order by (select count(*) from unnest(s.bands) band where band = any (mine.bands)) desc limit 64
        ) c
        where c.similarity >= mine.least_similarity order by c.similarity desc, c.id limit 1;
    end if;
    update public.chunks k
      set is_duplicate = original.id is not null, duplicate_of = original.id, duplicate_similarity = original.similarity
      where k.id = mine.id and (k.is_duplicate, k.duplicate_of, k.duplicate_similarity)
        is distinct from (original.id is not null, original.id, original.similarity);
    update private.chunk_sketches set is_original = true where chunk_id = mine.id and original.id is null;
  end loop;
end $$;

create function private.place_orphans(p_project_id uuid) returns void
language sql volatile set search_path = '' as $$
  select private.place_chunks(array(
    select k.id from public.chunks k
    where k.project_id = p_project_id and k.is_duplicate and k.duplicate_of is null
      and exists (select from public.documents d where d.id = k.document_id and d.status <> 'withdrawn')))
$$;
grant execute on function private.lock_chunks(uuid), private.place_chunks(uuid[]), private.place_orphans(uuid)
  to service_role;

-- save_document_chunks, and each chunk is compared with those of the project. p_chunks also has bands and shingles.
create function public.save_compared_chunks(
  p_document_id uuid, p_lease_token uuid, p_content_hash text, p_chunks jsonb, p_least_similarity real
) returns boolean language plpgsql set search_path = '' as $$
declare
  project uuid;
begin
  select d.project_id into project from public.documents d where d.id = p_document_id for update;
  perform private.lock_chunks(project);
  if not public.save_document_chunks(p_document_id, p_lease_token, p_content_hash, p_chunks) then
    return false;
  end if;
  insert into private.chunk_sketches (chunk_id, project_id, bands, shingles, least_similarity)
    select k.id, k.project_id, c.bands, c.shingles, p_least_similarity
    from jsonb_to_recordset(p_chunks) as c (ordinal integer, bands bigint[], shingles integer[])
    join public.chunks k on k.document_id = p_document_id and k.ordinal = c.ordinal;
  perform private.place_chunks(array(select k.id from public.chunks k where k.document_id = p_document_id));
  -- Where the document was cut before, duplicates of its old chunks are those of the new ones.
  perform private.place_orphans(project);
  return true;
end $$;
revoke execute on function public.save_compared_chunks(uuid, uuid, text, jsonb, real) from public, anon, authenticated;
grant execute on function public.save_compared_chunks(uuid, uuid, text, jsonb, real) to service_role;

create function private.lock_chunks_of_document() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform private.lock_chunks(old.project_id);
  return old;
end $$;
create trigger lock_chunks before delete on public.documents
  for each row execute function private.lock_chunks_of_document();

-- Not while a document is cut anew, and not when the whole project goes.
create function private.promote_duplicates() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  project uuid;
begin
  for project in
    select distinct g.project_id from gone g join public.projects p on p.id = g.project_id
    where not exists (select from public.documents d where d.id = g.document_id and d.status = 'processing')
  loop
    perform private.place_orphans(project);
  end loop;
  return null;
end $$;
create trigger promote_duplicates after delete on public.chunks
  referencing old table as gone for each statement execute function private.promote_duplicates();
