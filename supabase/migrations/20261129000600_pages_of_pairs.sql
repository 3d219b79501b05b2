-- The pairs of a dataset a page at a time, so that who reads a hundred thousand of them holds one page.

-- With the id behind it the index is the order itself: no page sorts.
create index training_pairs_order_idx on public.training_pairs (dataset_id, created_at, ordinal, id);
drop index public.training_pairs_dataset_id_idx;

create function public.page_of_pairs(p_dataset_id uuid, p_after jsonb, p_limit integer, p_bytes bigint)
returns jsonb language plpgsql stable set search_path = '' as $$
declare
  page jsonb[] := '{}';
  page_bytes bigint := 0;
  pair jsonb;
begin
  for pair in
    select to_jsonb(p) || jsonb_build_object(
      'document_name', (select d.name from public.documents d where d.id = p.document_id),
      'chunk_ordinal', (select c.ordinal from public.chunks c where c.id = p.chunk_id))
    from public.training_pairs p
    where p.dataset_id = p_dataset_id and (p.created_at, p.ordinal, p.id) > (
      coalesce((p_after ->> 'created_at')::timestamptz, '-infinity'),
      coalesce((p_after ->> 'ordinal')::integer, -2147483648),
      coalesce((p_after ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000'))
    order by p.created_at, p.ordinal, p.id limit p_limit
  loop
    page := array_append(page, pair);
    page_bytes := page_bytes + length(pair::text);
    exit when page_bytes >= p_bytes;
  end loop;
  return to_jsonb(page);
end $$;
comment on function public.page_of_pairs(uuid, jsonb, integer, bigint) is
  'Pairs in the order in which they were made, each with document_name and chunk_ordinal: those after {created_at, ordinal, id},'
  ' at most p_limit and so many as reach p_bytes. An empty list: there are no more.';

revoke execute on function public.page_of_pairs(uuid, jsonb, integer, bigint) from public, anon, authenticated;
grant execute on function public.page_of_pairs(uuid, jsonb, integer, bigint) to service_role;
