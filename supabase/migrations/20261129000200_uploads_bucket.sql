-- Files of training rows that wait to be imported: <project id>/<anything>/<name>. They stay until they are deleted.

insert into storage.buckets (id, name, public, file_size_limit) values
  ('uploads', 'uploads', false, 104857600)  -- 100 MiB, as for every upload
on conflict (id) do nothing;

create policy "members read the uploads of their projects" on storage.objects for select to authenticated
  using (bucket_id = 'uploads'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects() p));
create policy "editors upload training rows" on storage.objects for insert to authenticated
  with check (bucket_id = 'uploads'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p));
create policy "editors replace training rows" on storage.objects for update to authenticated
  using (bucket_id = 'uploads'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p))
  with check (bucket_id = 'uploads'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p));
create policy "editors delete training rows" on storage.objects for delete to authenticated
  using (bucket_id = 'uploads'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects('editor') p));
