//! TOML that cannot be read: at which place, and how to mend it.

use support::checking::{checked, folder, refused};
use support::folder::stderr;

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
        let output = checked(toml, &[]);
        let said = stderr(&output);
        let helps = said.lines().filter(|line| line.starts_with("  help: "));
        assert!(helps.clone().any(|line| line.contains(help)), "{said}");
        // The first error of a line has the parser stumble over the rest.
        assert_eq!(helps.count(), said.matches(": error: ").count(), "{said}");
        assert!(said.matches(": error: ").count() <= 2, "{said}");
    }
}

#[test]
fn a_file_that_is_missing_or_not_text_is_told() {
    let folder = folder(&[]);
    let list = ["-l", "127.0.0.1", "--dispatcher-list", "none"];
    for (args, flag) in [
        (&["--config", "none"][..], "--config"),
        (&list[..], "--dispatcher-list"),
    ] {
        let what = format!("{flag}: error: cannot read `none`");
        folder.refused(args, 1, &[&what, "help: name a file"]);
    }
    // As Latin-1, with a mark before it, and as UTF-16.
    for (text, at) in [
        (&b"a = 1\nb = '\xff'\n"[..], "2:6"),
        (&b"\xef\xbb\xbfa = '\xff'\n"[..], "1:6"),
        (&b"\xef\xbb\xbf\xff\n\n"[..], "1:1"),
        (&b"\xff\xfea\0=\0b\0\n\0"[..], "1:1"),
    ] {
        folder.write("v.toml", text);
        let what = format!("v.toml:{at}: error: the file is not UTF-8");
        let wanted = [&*what, "help: save it as UTF-8"];
        folder.refused(&["--config", "v.toml"], 1, &wanted);
    }
}
