-- Files: uploaded documents and exported datasets. The first folder of a path is the project.

insert into storage.buckets (id, name, public, file_size_limit) values
  ('documents', 'documents', false, 52428800),   -- 50 MiB
  ('exports', 'exports', false, 104857600)       -- 100 MiB, OpenAI's limit for a training file
on conflict (id) do nothing;

create policy "members read the files of their projects" on storage.objects for select to authenticated
  using (bucket_id in ('documents', 'exports')
    and (storage.foldername(name))[1] in (select p::text from private.my_projects() p));
create policy "editors upload documents" on storage.objects for insert to authenticated
  with check (bucket_id = 'documents'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p));
create policy "editors replace documents" on storage.objects for update to authenticated
  using (bucket_id = 'documents'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p))
  with check (bucket_id = 'documents'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p));
create policy "editors delete documents" on storage.objects for delete to authenticated
  using (bucket_id = 'documents'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p));
