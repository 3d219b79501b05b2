-- Temporary helpers of one connection: they vanish with it.

-- A row of text values as {column: JSON text}, typed as to_jsonb types it; JSON text keeps every digit.
create or replace function pg_temp.typed_row(relation oid, qualified text, raw jsonb) returns jsonb
language plpgsql as $$
declare
    literal text;
    typed jsonb;
begin
    select '(' || string_agg(
            coalesce('"' || replace(replace(raw ->> a.attname, '\', '\\'), '"', '""') || '"', ''),
            ',' order by a.attnum) || ')'
        into literal
        from pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped;
    execute format('select to_jsonb($1::%s)', qualified) into typed using literal;
    return (select jsonb_object_agg(e.key, e.value::text) from jsonb_each(typed) e where raw ? e.key);
end $$;

-- May this role, with these claims, see the row now? A policy that fails hides the row.
create or replace function pg_temp.sees(asked_role text, asked_claims text, question text) returns boolean
language plpgsql as $$
declare
    answer boolean;
begin
    perform set_config('request.jwt.claims', asked_claims, true),
            set_config('request.jwt.claim.sub', coalesce(asked_claims::jsonb ->> 'sub', ''), true),
            set_config('request.jwt.claim.role', asked_role, true),
            set_config('role', asked_role, true);
    execute question into answer;
    perform set_config('role', 'none', true);
    return answer;
exception when others then -- the block is rolled back, and the role with it
    raise warning 'row hidden from %: %', asked_role, sqlerrm;
    return false;
end $$;

-- new, old: typed rows or null; key: the primary key's columns; guarded: RLS is on;
-- columns: per role, what it may read; visible: per subscriber, null where the role may not
-- read the key or there is none.
create or replace function pg_temp.describe_change(
    relation oid, new_row jsonb, old_row jsonb, roles text[], claims text[]
) returns jsonb
language plpgsql as $$
declare
    qualified text;
    guarded boolean;
    key_columns text[];
    question text;
    columns jsonb;
    visible jsonb := '[]';
begin
    select format('%I.%I', n.nspname, c.relname), c.relrowsecurity into strict qualified, guarded
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = relation;
    select array_agg(a.attname::text), format('select exists (select from %s where %s)', qualified,
            string_agg(format('%I = %L', a.attname, new_row ->> a.attname), ' and '))
        into key_columns, question
        from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = relation and i.indisprimary;
    select jsonb_object_agg(r.role, (
            select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', t.typname)
                order by a.attnum), '[]')
            from pg_attribute a join pg_type t on t.oid = a.atttypid
            where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
                and has_column_privilege(r.role, relation, a.attnum, 'select')))
        into columns
        from (select distinct unnest(roles) as role) r;
    for i in 1 .. cardinality(roles) loop
        visible := visible || jsonb_build_array(case
            when (select bool_and(has_column_privilege(roles[i], relation, k, 'select'))
                from unnest(key_columns) k) is not true then null
            when not guarded or new_row is null then true
            else pg_temp.sees(roles[i], claims[i], question) end);
    end loop;
    return jsonb_build_object('guarded', guarded, 'key', key_columns, 'columns', columns, 'visible', visible,
        'new', pg_temp.typed_row(relation, qualified, new_row),
        'old', pg_temp.typed_row(relation, qualified, old_row));
end $$;
