-- What a trainer reports: now with the provider's id of its run, by which a start whose answer was lost is
-- bound, and with the cost of a run that is priced by time. Replaces the first version.

drop function public.report_training(uuid, integer, uuid, jsonb);

-- A trainer's messages. The first trainer of an attempt owns it; what was stored is not stored again.
create function public.report_training(
  p_job_id uuid, p_attempt integer, p_run_id uuid, p_reports jsonb, p_provider_job_id text default null
) returns jsonb language plpgsql set search_path = '' as $$
declare
  control private.training_job_control;
  job public.training_jobs;
  report jsonb;
  progress jsonb;
  latest jsonb;
  seq integer;
  has_result boolean := false;
begin
  select * into control from private.training_job_control where job_id = p_job_id for update;
  select * into job from public.training_jobs where id = p_job_id;
  if not found then
    return jsonb_build_object('outcome', 'job_not_found');
  end if;
  if job.attempt <> p_attempt or coalesce(control.run_id, p_run_id) <> p_run_id
     or job.status in ('pending', 'completed', 'failed', 'cancelled') then
    return jsonb_build_object('outcome', 'claim_lost', 'status', job.status);
  end if;
  control.claimed_at := coalesce(control.claimed_at, now());
  for report in select value from jsonb_array_elements(p_reports) loop
    seq := (report ->> 'seq')::integer;
    continue when seq <= control.last_report_seq;
    control.last_report_seq := seq;
    if report ->> 'kind' = 'result' then
      has_result := true;
      control.trainer_result := nullif(report -> 'result', 'null');
    end if;
    progress := nullif(report -> 'progress', 'null');
    if progress is not null then
      latest := progress;
      if progress ->> 'step' is not null and progress ->> 'training_loss' is not null then
        insert into public.training_metrics (job_id, step, project_id, epoch, training_loss, validation_loss,
            learning_rate, grad_norm, trained_tokens, tokens_per_second, gpu_memory_bytes)
          values (p_job_id, (progress ->> 'step')::integer, job.project_id, (progress ->> 'epoch')::real,
            (progress ->> 'training_loss')::double precision, (progress ->> 'validation_loss')::double precision,
            (progress ->> 'learning_rate')::double precision, (progress ->> 'grad_norm')::double precision,
            (progress ->> 'trained_tokens')::bigint, (progress ->> 'tokens_per_second')::real,
            (progress ->> 'gpu_memory_bytes')::bigint)
          on conflict (job_id, step) do nothing;
      end if;
    end if;
    if report ->> 'kind' = 'event' then
      insert into public.training_job_events (job_id, project_id, type, level, message, data, report_seq)
        values (p_job_id, job.project_id, 'trainer', report ->> 'level', report ->> 'message',
          coalesce(report -> 'data', '{}'), seq)
        on conflict (job_id, report_seq) do nothing;
    end if;
  end loop;
  if latest is not null then
    update public.training_jobs j set
        progress_percent = greatest(j.progress_percent, (latest ->> 'progress_percent')::numeric),
        current_step = case when j.cancel_requested_at is null then latest ->> 'current_step' else j.current_step end,
        epoch = coalesce((latest ->> 'epoch')::real, j.epoch),
        total_epochs = coalesce((latest ->> 'total_epochs')::integer, j.total_epochs),
        step = coalesce((latest ->> 'step')::integer, j.step),
        total_steps = coalesce((latest ->> 'total_steps')::integer, j.total_steps),
        training_loss = coalesce((latest ->> 'training_loss')::double precision, j.training_loss),
        validation_loss = coalesce((latest ->> 'validation_loss')::double precision, j.validation_loss),
        learning_rate = coalesce((latest ->> 'learning_rate')::double precision, j.learning_rate),
        trained_tokens = coalesce((latest ->> 'trained_tokens')::bigint, j.trained_tokens),
        tokens_per_second = coalesce((latest ->> 'tokens_per_second')::real, j.tokens_per_second),
        gpu_memory_bytes = coalesce((latest ->> 'gpu_memory_bytes')::bigint, j.gpu_memory_bytes),
        eta_at = now() + make_interval(secs => (latest ->> 'eta_seconds')::double precision),
        cost_usd = greatest(j.cost_usd, private.cost_by_time(j, control.claimed_at))
      where j.id = p_job_id;
  end if;
  update private.training_job_control set run_id = p_run_id, last_report_seq = control.last_report_seq,
      last_report_at = now(), claimed_at = control.claimed_at,
      trainer_ref = coalesce(trainer_ref, p_provider_job_id), trainer_result = control.trainer_result,
      next_poll_at = case when has_result and next_poll_at < 'infinity' then now() else next_poll_at end
    where job_id = p_job_id;
  return jsonb_build_object('outcome', 'accepted', 'accepted_seq', control.last_report_seq, 'status', job.status,
    'cancel_requested', job.cancel_requested_at is not null, 'has_result', has_result);
end $$;

revoke execute on function public.report_training(uuid, integer, uuid, jsonb, text) from public, anon, authenticated;
grant execute on function public.report_training(uuid, integer, uuid, jsonb, text) to service_role;
