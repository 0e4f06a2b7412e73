//! What was acknowledged survives `kill -9`: a child process writes from several tasks and says what was acknowledged.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{file, list, permission};
use ursa_store::Store;

const CHILD: &str = "URSA_STORE_CRASH_CHILD";
const WRITERS: usize = 4;

/// In the child's role, writes until it is killed; the parent gives the path of the store in the environment.
#[test]
fn acknowledged_writes_survive_a_crash() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&path));
    }
    let (_folder, path) = file();
    // Name to the source and the version that were acknowledged last.
    let mut acknowledged: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for lines in [1, 2, 9, 40, 90, 200] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "acknowledged_writes_survive_a_crash", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = 0;
        let mut hear = |line: String| -> usize {
            let Some(rest) = line.split("wrote ").nth(1) else { return 0 };
            let fields: Vec<&str> = rest.split(' ').collect();
            let [name, source, version] = fields[..] else { return 0 };
            let Ok(version) = version.parse() else { return 0 };
            acknowledged.insert(name.to_owned(), (source.parse().unwrap(), version));
            1
        };
        while said < lines {
            said += hear(output.next().expect("the child writes until it is killed"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died, past what was waited for.
        for line in output {
            hear(line);
        }

        let store = Store::open(&path).unwrap();
        let stored: BTreeMap<String, (u64, u64)> = list(&store)
            .iter()
            .map(|object| {
                let source = object.meta.annotations["count"].parse().unwrap();
                (object.meta.name.clone(), (source, object.meta.resource_version))
            })
            .collect();
        for (name, said) in &acknowledged {
            let found = stored.get(name).unwrap_or_else(|| panic!("{name} is lost"));
            // A write that was not acknowledged any more may be there, never an older one.
            assert!(found >= said, "{name}: acknowledged {said:?}, found {found:?}");
            assert_eq!(found == said, found.1 == said.1, "{name}: acknowledged {said:?}, found {found:?}");
        }
        assert!(store.revision() >= acknowledged.values().map(|(_, version)| *version).max().unwrap());
    }
}

fn write_until_killed(path: &Path) {
    let store = Store::open(path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn_local(async move {
            for count in store.revision() + 1.. {
                // Some names are written again and again, some once.
                let name = if count % 2 == 0 { format!("w{writer}") } else { format!("w{writer}-{count}") };
                let mut object = permission(&name, "s");
                object.meta.annotations.insert("count".into(), count.to_string());
                let written = store.put(object, None).await.unwrap().object;
                println!("wrote {name} {count} {}", written.meta.resource_version);
            }
        });
    }
    runtime.block_on(tasks);
}
