//! The torture messages of `tests/torture` with what must become of each.

use std::fs;

use serde::Deserialize;

use super::repository;

/// One message and its row in `expect.toml`.
#[derive(Debug)]
pub struct Message {
    /// File name inside the folder.
    pub file: String,
    /// The RFC section whose idea it takes up.
    pub section: String,
    /// That idea, in a few words.
    pub idea: String,
    /// What must become of it.
    pub expect: Expect,
    /// The datagram.
    pub octets: Vec<u8>,
}

/// What a stateless proxy must do with a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// A request that goes to a destination.
    Forward,
    /// A request that we answer, with this status.
    Reply(u16),
    /// A request that is neither forwarded nor answered, and why.
    Drop(String),
    /// A response that reads.
    Reads,
    /// A response that does not read.
    Refused,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    message: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    file: String,
    section: String,
    idea: String,
    expect: Expect,
}

/// Every message of the folder, in the order of the table.
///
/// # Panics
/// Where the table is wrong, or table and folder do not hold the same files.
pub fn messages() -> Vec<Message> {
    let folder = repository().join("tests/torture");
    let table = fs::read_to_string(folder.join("expect.toml")).expect("expect.toml");
    let table: Table = toml::from_str(&table).expect("a table of messages");
    let messages: Vec<Message> = table
        .message
        .into_iter()
        .map(|row| Message {
            octets: fs::read(folder.join(&row.file)).expect(&row.file),
            file: row.file,
            section: row.section,
            idea: row.idea,
            expect: row.expect,
        })
        .collect();
    let mut listed: Vec<_> = messages.iter().map(|each| each.file.clone()).collect();
    let mut stored: Vec<_> = fs::read_dir(&folder)
        .expect("tests/torture")
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".sip"))
        .collect();
    listed.sort();
    stored.sort();
    assert_eq!(listed, stored, "expect.toml against the folder");
    messages
}
