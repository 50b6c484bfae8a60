//! The files in `deploy/`, held to the binary they deploy: addresses, paths, times and variables.

use crate::support::{Certificate, Cluster, HaProxy, Need, have, run};
use obleth::config::{Config, Env};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

const COMPOSE: &str = include_str!("../../deploy/docker-compose.yml");
const DEPLOYMENT: &str = include_str!("../../deploy/kubernetes/deployment.yaml");
const SERVICES: &str = include_str!("../../deploy/kubernetes/service.yaml");
const BUDGET: &str = include_str!("../../deploy/kubernetes/poddisruptionbudget.yaml");
const SECRET: &str = include_str!("../../deploy/kubernetes/secret.example.yaml");
const HAPROXY: &str = include_str!("../../deploy/haproxy.cfg");
const DOCKERFILE: &str = include_str!("../../Dockerfile");
/// Time from the end of the grace to the end of the process, at most.
const TAIL: u64 = 14;

/// The documents of a file, with what `<<` refers to put in.
fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| {
            let mut document = serde_yaml_ng::Value::deserialize(document).unwrap();
            document.apply_merge().unwrap();
            serde_json::to_value(document).unwrap()
        })
        .collect()
}

fn document(text: &str) -> Value {
    let [document] = documents(text).try_into().unwrap();
    document
}

/// A value as an environment has it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn seconds(value: &Value) -> u64 {
    text(value).trim_end_matches('s').parse().unwrap()
}

/// `${NAME}` and `${NAME:?hint}` as if they were set.
fn filled(text: &str) -> String {
    let mut pieces = text.split("${");
    let mut filled = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (variable, rest) = piece.split_once('}').unwrap();
        let (name, hint) = variable.split_once(":?").unwrap_or((variable, ""));
        assert!(!hint.is_empty(), "{name} has no hint");
        filled.push_str(match name {
            "OBLETH_ENCRYPTION_KEY" => crate::support::ENCRYPTION_KEY,
            "OBLETH_UPSTREAM_BASE_URL" => "http://upstream:8000/v1",
            _ => "0123456789abcdef0123456789abcdef",
        });
        filled.push_str(rest);
    }
    filled
}

/// The configuration these variables make; each is one that obleth reads.
fn config(variables: &BTreeMap<String, String>) -> Config {
    let pairs = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let config = Config::read(Env::of(pairs)).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.unknown, Vec::<String>::new());
    assert!(config.data.database.as_ref().is_some_and(obleth_schema::DatabaseUrl::is_shared));
    assert_eq!(config.listen.proxy.port(), 8080);
    assert!(
        [config.listen.proxy, config.listen.admin, config.listen.metrics]
            .iter()
            .all(|at| at.ip().is_unspecified())
    );
    config
}

fn assert_patient(grace: u64, config: &Config) {
    let needed = (config.listen.shutdown_delay + config.listen.shutdown_grace).as_secs() + TAIL;
    assert!(grace > needed, "{grace} s are not more than {needed} s");
}

#[test]
fn compose_starts_replicas_that_share_everything_but_their_journals() {
    let compose = document(COMPOSE);
    let services = compose["services"].as_object().unwrap();
    let replicas: Vec<_> = services.iter().filter(|(name, _)| name.starts_with("obleth-")).collect();
    assert!(replicas.len() > 1);
    let mut journals = Vec::new();
    for (name, service) in &replicas {
        assert_eq!(service["image"], "obleth:latest", "{name}");
        assert_eq!(service["environment"], replicas[0].1["environment"]);
        let variables = service["environment"].as_object().unwrap();
        let variables = variables.iter().map(|(name, value)| (name.clone(), filled(&text(value)))).collect();
        assert_patient(seconds(&service["stop_grace_period"]), &config(&variables));
        let volume = service["volumes"][0].as_str().unwrap();
        let (journal, folder) = volume.split_once(':').unwrap();
        assert!(DOCKERFILE.contains(&format!("WORKDIR {folder}\n")), "the image writes there");
        assert!(compose["volumes"].as_object().unwrap().contains_key(journal));
        assert!(!journals.contains(&journal), "{journal} has two replicas");
        journals.push(journal);
        for other in service["depends_on"].as_object().unwrap().keys() {
            assert!(services.contains_key(other), "{other}");
        }
    }
    for (name, _) in replicas {
        let line = format!("server {name} {name}:8080");
        assert_eq!(HAPROXY.matches(&line).count(), 1, "{line}");
    }
    let certificate = services["haproxy"]["volumes"][1].as_str().unwrap();
    let certificate = certificate.trim_end_matches(":ro").rsplit_once(':').unwrap().1;
    assert!(HAPROXY.contains(&format!("crt {certificate} ")), "{certificate}");
}

#[test]
fn the_kubernetes_manifests_fit_the_binary_and_each_other() {
    let (deployment, secret) = (document(DEPLOYMENT), document(SECRET));
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], "obleth:latest");
    assert_eq!(container["envFrom"][0]["secretRef"]["name"], secret["metadata"]["name"]);
    let mut variables: BTreeMap<_, _> = secret["stringData"]
        .as_object()
        .unwrap()
        .clone()
        .into_iter()
        .map(|(name, value)| {
            let value =
                text(&value).replace("REPLACE-WITH-BASE64-OF-32-BYTES", crate::support::ENCRYPTION_KEY);
            (name, value)
        })
        .collect();
    for variable in container["env"].as_array().unwrap() {
        // Kubernetes takes strings alone.
        let value = variable["value"].as_str().unwrap_or_else(|| panic!("{variable}")).to_owned();
        assert!(
            variables.insert(text(&variable["name"]), value).is_none(),
            "{variable} is in the Secret too"
        );
    }
    let config = config(&variables);
    assert_patient(seconds(&pod["spec"]["terminationGracePeriodSeconds"]), &config);
    let ports: BTreeMap<_, _> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (text(&port["name"]), port["containerPort"].as_u64().unwrap()))
        .collect();
    for (name, listener) in
        [("http", config.listen.proxy), ("admin", config.listen.admin), ("metrics", config.listen.metrics)]
    {
        assert_eq!(ports[name], u64::from(listener.port()), "{name}");
    }
    for (probe, path) in
        [("readinessProbe", "/ready"), ("startupProbe", "/health"), ("livenessProbe", "/health")]
    {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&path.into(), &"http".into()), "{probe}");
    }
    let folder = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert!(variables["OBLETH_JOURNAL_DIR"].starts_with(folder));
    let uid = pod["spec"]["securityContext"]["runAsUser"].as_u64().unwrap();
    assert!(DOCKERFILE.contains(&format!("USER {uid}:{uid}\n")));
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&document(BUDGET)["spec"]["selector"]["matchLabels"], labels);
    for service in documents(SERVICES) {
        assert_eq!(&service["spec"]["selector"], labels);
        for port in service["spec"]["ports"].as_array().unwrap() {
            assert_eq!(ports[&text(&port["targetPort"])], port["port"].as_u64().unwrap(), "{port}");
        }
    }
}

#[test]
fn the_health_check_of_the_image_asks_the_gateway() {
    if !have(&[Need::Postgres]) {
        return;
    }
    let (_, check) = DOCKERFILE.split_once("HEALTHCHECK").unwrap();
    let (_, command) = check.split_once("CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command.lines().next().unwrap()).unwrap();
    run(async {
        let mut cluster = Cluster::of(1).without_redis().start().await;
        let here = cluster.replicas[0].proxy.port().to_string();
        let answers = || {
            let arguments = command[1..].iter().map(|part| part.replace("8080", &here));
            let output = Command::new(&command[0]).args(arguments).output().unwrap();
            println!("{output:?}");
            output.status.success()
        };
        assert!(answers());
        cluster.replicas[0].kill();
        assert!(!answers());
    });
}

#[test]
fn haproxy_takes_the_shipped_configuration() {
    if !have(&[Need::HaProxy]) {
        return;
    }
    let (certificate, nobody) = (Certificate::make(), SocketAddr::from(([127, 0, 0, 1], 1)));
    let text = crate::haproxy::shipped(8443, certificate.path().to_str().unwrap(), &[nobody; 2]);
    assert_eq!(HaProxy::faults(&text), "");
    assert_ne!(HaProxy::faults(&text.replace("roundrobin", "roundrobbin")), "");
}
