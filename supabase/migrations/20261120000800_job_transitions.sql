-- Which status may follow which. shared/jobs/state.py says the same; a test keeps them equal.

create table private.job_transitions (
  from_status public.job_status not null,
  to_status public.job_status not null,
  primary key (from_status, to_status)
);
grant select on private.job_transitions to service_role;

insert into private.job_transitions (from_status, to_status) values
  ('pending', 'uploading'), ('uploading', 'validating'), ('validating', 'queued'),
  ('queued', 'training'), ('training', 'completed'), ('uploading', 'pending');
insert into private.job_transitions (from_status, to_status)
  select f::public.job_status, t::public.job_status
  from unnest(array['pending', 'uploading', 'validating', 'queued', 'training']) f,
       unnest(array['failed', 'cancelled']) t;

-- Holds for every role, also for those that bypass RLS.
create function private.check_job_change() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    if new.status <> 'pending' then
      raise exception 'a training job starts as pending, not as %', new.status using errcode = 'check_violation';
    end if;
    new.version := 1;
    return new;
  end if;
  new.version := old.version + 1;
  if new.status = old.status then
    if old.status in ('completed', 'failed', 'cancelled') and new.model_id is not distinct from old.model_id then
      raise exception 'training job % has ended as % and does not change any more', old.id, old.status
        using errcode = 'check_violation';
    end if;
    return new;
  end if;
  if not exists (select from private.job_transitions t
                 where t.from_status = old.status and t.to_status = new.status) then
    raise exception 'training job % cannot go from % to %', old.id, old.status, new.status
      using errcode = 'check_violation';
  end if;
  if new.status = 'training' then
    new.started_at := coalesce(new.started_at, now());
  elsif new.status in ('completed', 'failed', 'cancelled') then
    new.finished_at := now();
    new.eta_at := null;
  end if;
  return new;
end $$;
create trigger check_job_change before insert or update on public.training_jobs
  for each row execute function private.check_job_change();

-- A dataset is held by one job at a time and is free again when that job has ended.
create function private.free_dataset() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.training_datasets set status = 'ready' where id = new.dataset_id and status = 'training';
  return null;
end $$;
create trigger free_dataset after update of status on public.training_jobs
  for each row when (old.status is distinct from new.status and new.status in ('completed', 'failed', 'cancelled'))
  execute function private.free_dataset();
