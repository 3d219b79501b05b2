-- A result ends the lease on its job. Who holds it has asked the provider without knowing the result, hears
-- that the process is gone, and would say that the run left nothing behind; as it is, they write nothing.

create function private.end_lease_on_result() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  new.lease_token := null;
  new.lease_expires_at := null;
  return new;
end $$;
create trigger end_lease_on_result before update of trainer_result on private.training_job_control
  for each row when (new.trainer_result is not null and old.trainer_result is distinct from new.trainer_result)
  execute function private.end_lease_on_result();
