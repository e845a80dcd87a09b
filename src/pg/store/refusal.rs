//! Looks up in the catalog whether something may refuse a value of a column.

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::store::{StatementMode, not_null, run};

/// Whether something that may refuse a value depends on one of these columns: a constraint, an index that is more than a
/// list of columns, a generated column, a policy, a partition bound; or whether a user's trigger may look at one. A BEFORE
/// trigger that fires before the extension's and raises nothing does not count.
pub fn depends_on_columns(oid: pg_sys::Oid, columns: Vec<i16>) -> Result<bool> {
    let depends = |class: &str, object: &str| {
        format!(
            "EXISTS (
                    SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.{class}'::pg_catalog.regclass
                        AND d.objid = {object}
                        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                        AND d.refobjid = $1
                        AND d.refobjsubid = ANY ($2)
                )"
        )
    };
    let sql = format!(
        r"SELECT
            EXISTS (
                SELECT FROM pg_catalog.pg_constraint c
                WHERE c.conrelid = $1
                    AND c.contype IN ('c', 'f', 'p', 'u', 'x')
                    AND (c.conkey && $2 OR c.conkey IS NULL)
            )
            OR EXISTS (
                SELECT FROM pg_catalog.pg_index i
                WHERE i.indrelid = $1
                    AND (i.indisunique OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
                    AND {index}
            )
            OR EXISTS (
                SELECT FROM pg_catalog.pg_attribute a
                JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
                WHERE a.attrelid = $1
                    AND a.attgenerated <> ''
                    AND {default}
            )
            OR EXISTS (
                SELECT FROM pg_catalog.pg_policy p
                WHERE p.polrelid = $1
                    AND {policy}
            )
            OR EXISTS (
                SELECT FROM pg_catalog.pg_partitioned_table p
                JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid
                JOIN pg_catalog.pg_attribute own
                    ON own.attrelid = $1
                    AND own.attname = a.attname
                    AND own.attnum = ANY ($2)
                WHERE (p.partrelid = $1 OR p.partrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors($1)))
                    AND (a.attnum = ANY (p.partattrs) OR p.partexprs IS NOT NULL)
            )
            OR EXISTS (
                SELECT FROM pg_catalog.pg_trigger t
                JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
                JOIN pg_catalog.pg_language l ON l.oid = f.prolang
                WHERE t.tgrelid = $1
                    AND NOT t.tgisinternal
                    AND t.tgenabled <> 'D'
                    AND f.pronamespace <> 'chatbot_sync'::pg_catalog.regnamespace
                    AND NOT (t.tgtype & 2 <> 0 AND t.tgname < 'zz_chatbot_sync_' AND f.prosrc !~* '\mraise\M')
                    AND (
                        l.lanname NOT IN ('plpgsql', 'sql')
                        OR t.tgqual IS NOT NULL
                        OR t.tgnewtable IS NOT NULL
                        OR t.tgattr::int2[] && $2
                        OR f.prosrc ~* '\mnew\M\s*([,);]|\.\*)'
                        OR EXISTS (
                            SELECT FROM pg_catalog.pg_attribute a
                            WHERE a.attrelid = $1
                                AND a.attnum = ANY ($2)
                                AND pg_catalog.strpos(
                                    pg_catalog.lower(f.prosrc),
                                    pg_catalog.lower(a.attname::text)
                                ) > 0
                        )
                    )
            )",
        index = depends("pg_class", "i.indexrelid"),
        default = depends("pg_attrdef", "f.oid"),
        policy = depends("pg_policy", "p.oid"),
    );
    run(&sql, &[oid.into(), columns.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}
