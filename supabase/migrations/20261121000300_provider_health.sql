-- The breaker of an account at a provider, and the search for runs that nobody asked for.

-- p_seconds: how long to leave the account alone at least; p_counts: whether it counts as a failure.
create function public.note_provider_failure(p_provider text, p_user_id uuid, p_seconds double precision, p_counts boolean)
returns integer language sql volatile set search_path = '' as $$
  insert into private.provider_breakers as b (provider, user_id, failures, open_until)
    values (p_provider, p_user_id, p_counts::integer, now() + make_interval(secs => p_seconds))
    on conflict (provider, user_id) do update set
      failures = b.failures + p_counts::integer,
      open_until = greatest(b.open_until, now() + make_interval(
        secs => greatest(p_seconds, case when b.failures + p_counts::integer >= 5
          then least(300, 10 * 2 ^ (b.failures + p_counts::integer - 5)) else 0 end)))
    returning failures
$$;
comment on function public.note_provider_failure is
  'Failures in a row. From the fifth on the account is left alone for 10 s, doubling up to 300 s.';

create function public.note_provider_success(p_provider text, p_user_id uuid) returns void
language sql volatile set search_path = '' as $$
  delete from private.provider_breakers where provider = p_provider and user_id = p_user_id
$$;

create function public.claim_run_sweeps(p_limit integer, p_lease_seconds double precision) returns jsonb
language sql volatile set search_path = '' as $$
  with due as (
    select a.job_id, a.attempt from private.provider_attempts a
    where a.next_sweep_at <= now() and (a.lease_expires_at is null or a.lease_expires_at < now())
    order by a.next_sweep_at limit p_limit for update skip locked
  ), claimed as (
    update private.provider_attempts a set lease_expires_at = now() + make_interval(secs => p_lease_seconds)
      from due where a.job_id = due.job_id and a.attempt = due.attempt
      returning a.*
  )
  select coalesce(jsonb_agg(jsonb_build_object('job_id', c.job_id, 'attempt', c.attempt, 'provider', c.provider,
      'user_id', c.user_id, 'status', j.status, 'method', j.method, 'provider_job_id', coalesce(j.provider_job_id, c.provider_job_id))), '[]')
  from claimed c left join public.training_jobs j on j.id = c.job_id
$$;
comment on function public.claim_run_sweeps is 'Attempts whose extra runs are to be looked for; status null: the job was deleted.';

-- p_retry_seconds: the provider was not reached, look again then; null: looked, and p_extra_runs were stopped.
create function public.finish_run_sweep(
  p_job_id uuid, p_attempt integer, p_extra_runs integer, p_retry_seconds double precision default null
) returns void language plpgsql set search_path = '' as $$
begin
  update private.provider_attempts a set
      lease_expires_at = null,
      extra_runs = a.extra_runs + p_extra_runs,
      sweeps = a.sweeps + (p_retry_seconds is null)::integer,
      -- After the grace, 10 minutes and an hour: a run that comes later than that is beyond any provider's queue.
      next_sweep_at = case
        when p_retry_seconds is not null then now() + make_interval(secs => p_retry_seconds)
        when a.sweeps = 0 then greatest(now(), a.submitted_at + interval '10 minutes')
        when a.sweeps = 1 then greatest(now(), a.submitted_at + interval '1 hour')
        else 'infinity' end
    where a.job_id = p_job_id and a.attempt = p_attempt;
  if p_extra_runs > 0 then
    insert into public.training_job_events (job_id, project_id, type, level, message, data)
      select j.id, j.project_id, 'sweeper', 'warning',
        p_extra_runs || ' run(s) beside the one of this job were found at the provider and stopped.',
        jsonb_build_object('extra_runs', p_extra_runs)
      from public.training_jobs j where j.id = p_job_id;
  end if;
end $$;

revoke execute on function public.note_provider_failure(text, uuid, double precision, boolean),
  public.note_provider_success(text, uuid), public.claim_run_sweeps(integer, double precision),
  public.finish_run_sweep(uuid, integer, integer, double precision) from public, anon, authenticated;
grant execute on function public.note_provider_failure(text, uuid, double precision, boolean),
  public.note_provider_success(text, uuid), public.claim_run_sweeps(integer, double precision),
  public.finish_run_sweep(uuid, integer, integer, double precision) to service_role;
