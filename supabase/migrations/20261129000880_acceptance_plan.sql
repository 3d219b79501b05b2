-- The arithmetic of acceptance: how many pairs of a random sample must be good, so that with so much confidence at
-- most such a share of the whole dataset is bad.

-- ln n!, by Stirling's series from 20 on: its first left-out term is 1/(1680 n^7), under 1e-12.
create function private.ln_factorial(n integer) returns double precision
language sql immutable set search_path = '' as $$
  select case when n < 20 then ln(factorial(n))::double precision
    else n * ln(n::double precision) - n + ln(2 * pi() * n) / 2
      + 1 / (12.0 * n) - 1 / (360.0 * n ^ 3) + 1 / (1260.0 * n ^ 5) end
$$;

-- How likely a random sample of so many pairs has at most so many bad ones: the lower tail of the hypergeometric
-- distribution, exact for a dataset of a size that is known.
create function private.chance_of_at_most(p_bad integer, p_sample integer, p_all_bad integer, p_all integer)
returns double precision language sql immutable set search_path = '' as $$
  -- Postgres takes exp of less than about -745 for an error; what is left out here is no chance.
  select coalesce(sum(exp(greatest(-700,
      private.ln_factorial(p_all_bad) - private.ln_factorial(k) - private.ln_factorial(p_all_bad - k)
      + private.ln_factorial(p_all - p_all_bad) - private.ln_factorial(p_sample - k)
      - private.ln_factorial(p_all - p_all_bad - p_sample + k)
      - private.ln_factorial(p_all) + private.ln_factorial(p_sample) + private.ln_factorial(p_all - p_sample)))), 0)
  from generate_series(greatest(0, p_sample - (p_all - p_all_bad)), least(p_bad, p_sample, p_all_bad)) k
$$;

-- The most pairs that may be bad, so many of a sample being it: with more, so few in the sample would have a chance
-- of p_error or less. The one-sided exact bound: Clopper and Pearson, Biometrika 26 (1934), for a sample without
-- replacement as in Wright, Exact Confidence Bounds when Sampling from Small Finite Universes (1991).
create function private.most_bad(p_bad integer, p_sample integer, p_all integer, p_error double precision)
returns integer language plpgsql immutable set search_path = '' as $$
declare
  possible integer := p_bad;
  too_many integer := p_all - p_sample + p_bad + 1;
  middle integer;
begin
  while too_many - possible > 1 loop
    middle := (possible + too_many) / 2;
    if private.chance_of_at_most(p_bad, p_sample, middle, p_all) > p_error then
      possible := middle;
    else
      too_many := middle;
    end if;
  end loop;
  return possible;
end $$;

-- When a sample is looked at: [{pairs, allowed_bad}]. Looking after each pair until the bound happens to be low
-- enough would grant far more than one wrong certificate in twenty, so the looks are fixed beforehand: at most four,
-- each at twice as many pairs as the one before and with a quarter of the error. The first is at the fewest pairs
-- that can do with no bad one; a look at all pairs cannot err.
create function private.planned_looks(p_all integer, p_max_bad_share double precision, p_confidence double precision)
returns jsonb language plpgsql immutable set search_path = '' as $$
declare
  error constant double precision := (1 - p_confidence) / 4;
  -- The fewest that are too many; what rounding makes of 0.03 * 100 is not.
  too_many constant integer := floor(p_max_bad_share * p_all + 1e-9) + 1;
  looks jsonb := '[]';
  too_few integer := 0;
  sample integer := p_all;
  allowed integer := 0;
begin
  while sample - too_few > 1 loop
    if private.chance_of_at_most(0, (too_few + sample) / 2, too_many, p_all) <= error then
      sample := (too_few + sample) / 2;
    else
      too_few := (too_few + sample) / 2;
    end if;
  end loop;
  for look in 1..4 loop
    while allowed + 1 < too_many and private.chance_of_at_most(allowed + 1, sample, too_many, p_all) <= error loop
      allowed := allowed + 1;
    end loop;
    looks := looks || jsonb_build_object('pairs', sample, 'allowed_bad', allowed);
    exit when sample = p_all;
    sample := least(2 * sample, p_all);
  end loop;
  return looks;
end $$;
