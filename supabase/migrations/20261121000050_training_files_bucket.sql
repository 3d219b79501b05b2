-- Training files for trainers elsewhere: <job id>/<sha256>.jsonl, each opened by a signed address for an hour.
-- No policy names this bucket: no client reads, lists or writes it.

insert into storage.buckets (id, name, public, file_size_limit) values
  ('training-files', 'training-files', false, 104857600)  -- 100 MiB, as for every upload
on conflict (id) do nothing;
