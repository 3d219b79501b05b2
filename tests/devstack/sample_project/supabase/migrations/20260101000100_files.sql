insert into storage.buckets (id, name, public) values ('files', 'files', false);
create policy "owners keep files in a folder of their own" on storage.objects for all to authenticated
  using (bucket_id = 'files' and (storage.foldername(name))[1] = (select auth.uid())::text)
  with check (bucket_id = 'files' and (storage.foldername(name))[1] = (select auth.uid())::text);
