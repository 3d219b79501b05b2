-- Models of trainers whose disk does not last: <project id>/<job id>/<attempt>/<sha256>, in pieces of at most 40 MiB.
-- Trainers write by signed addresses and members read; nobody else does either.

insert into storage.buckets (id, name, public, file_size_limit) values
  ('models', 'models', false, 41943040)  -- 40 MiB: every plan of Supabase takes that
on conflict (id) do nothing;

create policy "members read the models of their projects" on storage.objects for select to authenticated
  using (bucket_id = 'models'
    and (storage.foldername(name))[1] in (select p::text from private.my_projects() p));

create function public.stored_pieces(p_folder text) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(substr(o.name, length(p_folder) + 2), (o.metadata ->> 'size')::bigint), '{}')
  from storage.objects o where o.bucket_id = 'models' and starts_with(o.name, p_folder || '/')
$$;
comment on function public.stored_pieces(text) is 'Bytes of each piece of models in this folder, by its name.';

revoke execute on function public.stored_pieces(text) from public, anon, authenticated;
grant execute on function public.stored_pieces(text) to service_role;
