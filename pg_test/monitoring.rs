//! The collector and the dashboard in `monitoring/` match the metrics that exist, and metric names
//! follow Prometheus' conventions.

use std::collections::BTreeSet;

use postgres::Client;
use serde_json::Value;

use super::harness::{attached_documents, embed_statement, query_column, use_mock};
use super::mock::{Fault, Mock};
use super::server::Server;

const COLLECTOR: &str = include_str!("../monitoring/chatbot_sync.collector.yml");
const DASHBOARD: &str = include_str!("../monitoring/grafana.json");

/// A metric: name, type, help, labels, and column of the collector's query.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    name: String,
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    column: String,
}

/// Reads the collector's metrics. The file has one key on each line.
fn collector_metrics() -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    let list = |text: &str| text.trim_matches(['[', ']']).split(", ").map(str::to_owned).collect::<BTreeSet<String>>();
    for line in COLLECTOR.split("\nmetrics:\n").nth(1).unwrap().split("\nqueries:").next().unwrap().lines() {
        let Some((key, value)) = line.trim_start_matches([' ', '-']).split_once(": ") else { continue };
        if key == "metric_name" {
            metrics.push(Metric::default());
        }
        let metric = metrics.last_mut().unwrap();
        match key {
            "metric_name" => metric.name = value.to_owned(),
            "type" => metric.kind = value.to_owned(),
            "help" => metric.help = value.trim_matches('\'').to_owned(),
            "key_labels" => metric.labels = list(value),
            "values" => metric.column = value.trim_matches(['[', ']']).to_owned(),
            "query_ref" => assert_eq!(value, "chatbot_metrics"),
            _ => panic!("{line}"),
        }
    }
    metrics
}

fn collector_query() -> &'static str {
    COLLECTOR.split("    query: |\n").nth(1).unwrap()
}

/// Returns the metrics of the server in the collector's form.
fn server_metrics(client: &mut Client) -> Vec<Metric> {
    let sql = "SELECT name, type, help, coalesce((SELECT string_agg(k, ', ') FROM jsonb_object_keys(labels) AS k), '')
        FROM chatbot_metrics() GROUP BY 1, 2, 3, 4";
    let of = |row: &postgres::Row| Metric {
        name: row.get(0),
        kind: row.get(1),
        help: row.get(2),
        labels: row.get::<_, &str>(3).split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect(),
        column: row.get::<_, &str>(0).trim_start_matches("chatbot_sync_").to_owned(),
    };
    client.query(sql, &[]).unwrap().iter().map(of).collect()
}

#[test]
fn the_exporter_has_exactly_the_metrics() {
    // Every kind of metric has a value: there is a sync, a failure and a rollback.
    let (mut server, mock) = (Server::start_preloaded(&[]), Mock::new());
    use_mock(&mut server.db, &mock);
    let mut app = server.db.session("app");
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
    app.batch_execute(&format!("BEGIN; {}; ROLLBACK", embed_statement(2, "A text."))).unwrap();
    app.batch_execute("INSERT INTO chatbot_sync.sync_total SELECT 0, 1, '28000', 1, 0, 0, 0, 0, 0, 0, 0, 0").unwrap();
    let mut there = server_metrics(&mut app);
    let mut asked = collector_metrics();
    there.sort();
    asked.sort();
    assert_eq!(asked, there);
    // Each value is in one column, under its own name and with its own labels.
    let rows = app.query(collector_query(), &[]).unwrap();
    let shown: usize = rows
        .iter()
        .map(|row| {
            let values = asked.iter().filter(|metric| row.get::<_, Option<f64>>(metric.column.as_str()).is_some());
            values
                .inspect(|metric| {
                    for label in &metric.labels {
                        assert!(row.get::<_, Option<&str>>(label.as_str()).is_some(), "{metric:?}: {label}");
                    }
                })
                .count()
        })
        .sum();
    assert_eq!(shown, rows.len());
    assert!(shown > asked.len());
}

#[test]
fn the_dashboard_shows_existing_metrics() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let metrics = collector_metrics();
    let mut used = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            for part in expr.split("chatbot_sync_").skip(1) {
                let (name, selector) = part.split_once('{').unwrap();
                let metric = metrics.iter().find(|metric| metric.name == format!("chatbot_sync_{name}"));
                let metric = metric.unwrap_or_else(|| panic!("{name}: {expr}"));
                let labels = selector.split('}').next().unwrap().split(", ").filter_map(|s| s.split(['=', '!']).next());
                for label in labels.filter(|label| *label != "instance") {
                    assert!(metric.labels.contains(label), "{label}: {expr}");
                }
                if metric.kind == "counter" {
                    assert!(expr.contains("rate(") || expr.contains("increase("), "{expr}");
                }
                used.insert(name.to_owned());
            }
            let grouped = expr.split("sum by (").skip(1).flat_map(|s| s.split(')').next().unwrap().split(", "));
            for label in grouped {
                assert!(metrics.iter().any(|m| expr.contains(&m.name) && m.labels.contains(label)), "{label}: {expr}");
            }
        }
    }
    assert_eq!(used.len(), metrics.len(), "{used:?}");
}

#[test]
fn metric_names_follow_prometheus() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.')").unwrap();
    mock.state().always = Some(Fault::Status(401, "", "{}"));
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Another.')").unwrap();
    let odd = "SELECT name FROM chatbot_metrics() WHERE name !~ '^chatbot_sync_[a-z_]+$' OR type NOT IN ('gauge', 'counter')
        OR (type = 'counter') <> (name LIKE '%\\_total') OR name ~ '_(ms|milliseconds|minutes|kilobytes|mb|percent)(_|$)'
        OR help IS NULL OR value IS NULL OR labels IS NULL
        OR EXISTS (SELECT FROM jsonb_each(labels) AS l WHERE l.key !~ '^[a-z_]+$' OR jsonb_typeof(l.value) <> 'string')";
    assert_eq!(query_column::<String>(&mut app, odd), [""; 0]);
    // No series occurs twice, and each metric has one type and one help text.
    let twice = "SELECT name || labels FROM chatbot_metrics() GROUP BY name, labels HAVING count(*) > 1";
    assert_eq!(query_column::<String>(&mut app, twice), [""; 0]);
    let different = "SELECT name FROM chatbot_metrics() GROUP BY name HAVING count(DISTINCT (type, help)) > 1";
    assert_eq!(query_column::<String>(&mut app, different), [""; 0]);
}
