//! The migrations of the three databases make the same tables: columns, nullability, keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::daemon::Setup;
use crate::support::database::Database;
use crate::support::postgres::Postgres;
use crate::support::scratch::Scratch;
use crate::support::server::Server;

#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// In their order; whether each may be NULL.
    columns: Vec<(String, bool)>,
    /// Whether unique, and the columns, of the primary key and every index.
    keys: BTreeSet<(bool, Vec<String>)>,
    /// Column, the table it refers to, and what deleting a row there does.
    references: BTreeSet<(String, String, String)>,
}

type Schema = BTreeMap<String, Table>;

/// Puts together what the three selections give, whose texts are alike by then.
fn schema(columns: Vec<Vec<String>>, keys: Vec<Vec<String>>, references: Vec<Vec<String>>) -> Schema {
    let mut schema = Schema::new();
    for row in columns {
        let nullable = matches!(row[2].as_str(), "YES" | "true" | "1");
        schema.entry(row[0].clone()).or_default().columns.push((row[1].clone(), nullable));
    }
    for row in keys {
        let unique = matches!(row[1].as_str(), "1" | "true");
        let columns = row[2].split(',').map(|column| {
            column.trim_start_matches("lower(").trim_end_matches("::text)").trim_end_matches(')').to_owned()
        });
        schema.get_mut(&row[0]).unwrap().keys.insert((unique, columns.collect()));
    }
    for row in references {
        let place = (row[1].clone(), row[2].clone(), row[3].to_uppercase());
        schema.get_mut(&row[0]).unwrap().references.insert(place);
    }
    schema.retain(|table, _| table != "_sqlx_migrations");
    schema
}

/// MySQL's schema, but for what it has alone: the foreign key of `messages`, which PolicydRateGuard's tables have, and the
/// column for senders in lower case, where the others have an index on an expression.
fn without_its_own(mut schema: Schema) -> Schema {
    let references = &mut schema.get_mut("messages").unwrap().references;
    assert!(references.remove(&("ratelimit_id".to_owned(), "ratelimits".to_owned(), "SET NULL".to_owned())));
    let senders = schema.get_mut("ratelimits").unwrap();
    assert_eq!(senders.columns.pop(), Some(("sender_lowered".to_owned(), true)));
    assert!(senders.keys.remove(&(false, vec!["sender_lowered".to_owned()])));
    schema
}

fn migrated(database: &Database) {
    let output = Setup::on(database).run("migrate", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn sqlite() -> Schema {
    let scratch = Scratch::unprivileged();
    let database = Database::sqlite(&scratch.join("test.db"));
    migrated(&database);
    let tables = "FROM sqlite_schema AS s";
    let mut keys = database.select(
        &[
            "s.name",
            "i.\"unique\"",
            "(SELECT group_concat(COALESCE(k.name, 'sender')) FROM pragma_index_xinfo(i.name) AS k WHERE k.key)",
        ],
        &format!("{tables}, pragma_index_list(s.name) AS i WHERE s.type = 'table' AND i.origin <> 'pk'"),
    );
    keys.extend(database.select(
        &[
            "s.name",
            "1",
            "(SELECT group_concat(name) FROM (SELECT name FROM pragma_table_info(s.name) WHERE pk > 0 ORDER BY pk))",
        ],
        &format!("{tables} WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite_%'"),
    ));
    schema(
        database.select(
            &["s.name", "c.name", "1 - c.\"notnull\""],
            &format!("{tables}, pragma_table_info(s.name) AS c WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite_%' ORDER BY s.name, c.cid"),
        ),
        keys,
        database.select(
            &["s.name", "f.\"from\"", "f.\"table\"", "f.on_delete"],
            &format!("{tables}, pragma_foreign_key_list(s.name) AS f WHERE s.type = 'table'"),
        ),
    )
}

fn mysql(database: &Database) -> Schema {
    migrated(database);
    schema(
        database.select(
            &["table_name", "column_name", "is_nullable"],
            "FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position",
        ),
        database.select(
            &["table_name", "1 - non_unique", "columns"],
            "FROM (SELECT table_name, non_unique, GROUP_CONCAT(column_name ORDER BY seq_in_index) AS columns \
             FROM information_schema.statistics WHERE table_schema = DATABASE() \
             GROUP BY table_name, index_name, non_unique) AS k",
        ),
        database.select(
            &["k.table_name", "k.column_name", "k.referenced_table_name", "r.delete_rule"],
            "FROM information_schema.key_column_usage AS k JOIN information_schema.referential_constraints AS r \
             ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name \
             AND r.table_name = k.table_name WHERE k.table_schema = DATABASE()",
        ),
    )
}

fn postgres() -> Schema {
    let database = Postgres::shared().database();
    migrated(&database);
    schema(
        database.select(
            &["table_name", "column_name", "is_nullable"],
            "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
        ),
        database.select(
            &["t.relname", "i.indisunique", "columns"],
            "FROM pg_index AS i JOIN pg_class AS t ON t.oid = i.indrelid AND t.relnamespace = 'public'::regnamespace, \
             LATERAL (SELECT string_agg(pg_get_indexdef(i.indexrelid, n, true), ',' ORDER BY n) AS columns \
             FROM generate_series(1, i.indnkeyatts) AS n) AS k",
        ),
        database.select(
            &["conrelid::regclass", "a.attname", "confrelid::regclass", "CASE confdeltype WHEN 'n' THEN 'SET NULL' WHEN 'c' THEN 'CASCADE' END"],
            "FROM pg_constraint JOIN pg_attribute AS a ON a.attrelid = conrelid AND a.attnum = conkey[1] WHERE contype = 'f'",
        ),
    )
}

#[test]
fn sqlite_has_the_tables_that_are_known() {
    let sqlite = sqlite();
    let tables: Vec<&str> = sqlite.keys().map(String::as_str).collect();
    let known = [
        "arrivals",
        "batches",
        "blocks",
        "days",
        "journals",
        "messages",
        "meta",
        "networks",
        "notices",
        "ratelimits",
        "revisions",
        "strikes",
        "usage",
        "usage_parts",
    ];
    assert_eq!(tables, known);
}

fn tables_are_those_of_sqlite<S: Server>() {
    assert_eq!(without_its_own(mysql(&S::shared().database())), sqlite());
}

crate::on_mariadb_and_mysql! { tables_are_those_of_sqlite }

#[test]
fn postgres_tables_are_those_of_sqlite() {
    assert_eq!(postgres(), sqlite());
}

#[test]
fn migrations_have_the_same_numbers_and_names_everywhere() {
    let names = |folder: &str| -> BTreeSet<String> {
        let files = std::fs::read_dir(format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("mysql"), names("sqlite"));
    assert_eq!(names("postgres"), names("sqlite"));
    assert!(names("sqlite").len() >= 6);
}
