-- Which document a pair comes from, for good. A chunk goes when its document is cut anew or deleted; the pair and
-- this id stay, so that it can still be told what the document reached.

alter table public.training_pairs add column document_id uuid;
comment on column public.training_pairs.document_id is
  'The document that its chunk was cut from; no foreign key, because it outlives both. null: not from a document.';
create index training_pairs_document_id_idx on public.training_pairs (document_id) where document_id is not null;

update public.training_pairs p set document_id = k.document_id from public.chunks k where k.id = p.chunk_id;

-- Whoever stores a pair of a chunk: the document is named.
create function private.name_document_of_pair() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  select k.document_id into new.document_id from public.chunks k where k.id = new.chunk_id;
  return new;
end $$;
create trigger name_document before insert on public.training_pairs
  for each row when (new.chunk_id is not null and new.document_id is null)
  execute function private.name_document_of_pair();
