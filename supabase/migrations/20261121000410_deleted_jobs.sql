-- A job that is deleted before it has ended, as with the account of who started it, gives its dataset back.

create function private.free_dataset_of_deleted_job() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.training_datasets set status = 'ready' where id = old.dataset_id and status = 'training';
  return null;
end $$;
create trigger free_dataset_of_deleted_job after delete on public.training_jobs
  for each row when (old.status not in ('completed', 'failed', 'cancelled'))
  execute function private.free_dataset_of_deleted_job();
