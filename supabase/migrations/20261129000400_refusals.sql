-- How a step that clients call says no: a code for programs, a sentence for people and what to do next, in the
-- shape that PostgREST passes on with this HTTP status (docs.postgrest.org, "RAISE errors with HTTP status codes").

create function private.refuse(http_status integer, code text, message text, hint text default null) returns void
language plpgsql set search_path = '' as $$
begin
  raise sqlstate 'PGRST' using
    message = jsonb_build_object('code', code, 'message', message, 'hint', hint)::text,
    detail = jsonb_build_object('status', http_status, 'headers', '{}'::jsonb)::text;
end $$;
