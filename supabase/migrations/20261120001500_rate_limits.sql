-- How often a caller may call, kept where every instance of a function sees it.

create table private.rate_limits (
  key text primary key,
  next_free_at timestamptz not null
);
comment on column private.rate_limits.next_free_at is 'The theoretical arrival time of GCRA: when the bucket is empty again.';
grant select, insert, update, delete on private.rate_limits to service_role;

-- GCRA (ITU-T I.371): p_limit calls in a burst, refilled evenly over p_window_seconds, one row a key.
create function public.take_rate_limit(p_key text, p_limit integer, p_window_seconds integer) returns integer
language plpgsql set search_path = '' as $$
declare
  step interval := make_interval(secs => p_window_seconds::double precision / p_limit);
  burst interval := make_interval(secs => p_window_seconds) - step;
  free_at timestamptz;
begin
  insert into private.rate_limits as r (key, next_free_at) values (p_key, clock_timestamp() + step)
    on conflict (key) do update set next_free_at = greatest(r.next_free_at, clock_timestamp()) + step
      where r.next_free_at <= clock_timestamp() + burst
    returning next_free_at into free_at;
  if found then
    return 0;
  end if;
  select r.next_free_at into free_at from private.rate_limits r where r.key = p_key;
  return greatest(1, ceil(extract(epoch from free_at - burst - clock_timestamp())))::integer;
end $$;
comment on function public.take_rate_limit(text, integer, integer) is
  '0: the call may go on and is counted; otherwise the seconds until one may, and nothing is counted.';
revoke execute on function public.take_rate_limit(text, integer, integer) from public, anon, authenticated;
grant execute on function public.take_rate_limit(text, integer, integer) to service_role;
