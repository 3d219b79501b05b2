-- Rows of datasets call the function that makes their pairs: generate-dataset for documents, import-dataset for all
-- other sources; and the schedule asks again for imports that nobody works on.

drop trigger call_generate_dataset on public.training_datasets;
create trigger call_generate_dataset after insert on public.training_datasets
  for each row when (new.status = 'generating' and new.source = 'documents')
  execute function private.call_with_id('generate-dataset', 'datasetId');
create trigger call_import_dataset after insert on public.training_datasets
  for each row when (new.status = 'generating' and new.source <> 'documents')
  execute function private.call_with_id('import-dataset', 'datasetId');

create function public.call_for_unfinished_imports() returns integer
language plpgsql set search_path = '' as $$
declare
  called integer := 0;
  item uuid;
begin
  for item in
    select d.id from public.training_datasets d join private.dataset_imports i on i.dataset_id = d.id
    where d.status = 'generating' and d.source <> 'documents' and d.updated_at < now() - interval '10 seconds'
      and i.ended_at is null and (i.lease_expires_at is null or i.lease_expires_at < now())
    order by d.updated_at limit 50
  loop
    perform private.call_function('import-dataset', jsonb_build_object('datasetId', item));
    called := called + 1;
  end loop;
  return called;
end $$;
revoke execute on function public.call_for_unfinished_imports() from public, anon, authenticated;
grant execute on function public.call_for_unfinished_imports() to service_role;
