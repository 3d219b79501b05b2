-- What clients may follow live. Metrics per step are not published: the job row carries the latest.

do $$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end $$;
alter publication supabase_realtime add table public.training_jobs, public.training_datasets, public.documents;
