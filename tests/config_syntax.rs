//! TOML that cannot be read: at which place, and how to mend it.

mod checking;

use checking::{Place, refused, stderr};

#[test]
fn syntax_errors_have_a_place() {
    refused("listen = [\n", &["v.toml:1:11: error: "]);
    refused(
        "workers = 1\nworkers = 2\n",
        &["v.toml:2:1: error: duplicate key"],
    );
    // Columns count characters, not octets.
    refused("policy = 'ä' 7\n", &["v.toml:1:14: error: "]);
}

#[test]
fn syntax_errors_say_how_to_mend_them() {
    for (toml, help) in [
        ("secret-file = /var/lib/secret\n", "text in quotes"),
        ("listen = [127.0.0.1:5060]\n", "text in quotes"),
        ("policy =\n", "text in quotes"),
        ("pin = True\n", "`true` or `false`"),
        ("policy 'hash'\n", "write `key = value`"),
        ("workers = 1\nworkers = 2\n", "keep one of them"),
        ("[set]\nname = 'a'\n[set]\nname = 'b'\n", "`[[set]]`"),
        ("listen = ['127.0.0.1'\nworkers = 1\n", "close it with `]`"),
        ("listen = ['127.0.0.1' '127.0.0.2']\n", "a comma"),
        ("[[set]\nname = 'a'\n", "has its bracket"),
        ("policy = 'hash\nworkers = 1\n", "the quote that began it"),
        ("secret-file = \"C:\\viaduct\"\n", "`\\\\`"),
        ("// a comment\nworkers = 1\n", "begins with `#`"),
        ("workers = 1;\n", "nothing behind them"),
    ] {
        let output = Place::with(&[("v.toml", toml)]).check(&["--config", "v.toml"]);
        let said = stderr(&output);
        let helps = said.lines().filter(|line| line.starts_with("  help: "));
        assert!(helps.clone().any(|line| line.contains(help)), "{said}");
        // The first error of a line has the parser stumble over the rest.
        assert_eq!(helps.count(), said.matches(": error: ").count(), "{said}");
        assert!(said.matches(": error: ").count() <= 2, "{said}");
    }
}
