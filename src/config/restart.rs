//! What takes effect at a start only, told from what a reload may change.

use super::{Config, Listener, Stateful};

/// The keys in which `asked` differs from `running` and that only a start can
/// bring into effect. Both are as loaded, not as bound.
pub fn needs_restart(running: &Config, asked: &Config) -> Vec<&'static str> {
    // Whole, so that a new setting cannot be forgotten here.
    let Config {
        listeners,
        sets: _,
        routes: _,
        allowed_next_hops: _,
        workers,
        steer,
        pin,
        batch,
        gso,
        coalesce,
        spin,
        receive_buffer,
        send_buffer,
        secret_file,
        reply_rate,
        resolve,
        resolvers,
        second_chance: _,
        stateful,
        admin,
        mirror,
        log,
        stop_timeout: _,
    } = running;
    let Stateful {
        methods,
        transactions,
        timers: _,
        failover_after: _,
        failover_status: _,
        retry_after_cap: _,
        ring_timeout: _,
        on_failure: _,
        accounting,
    } = stateful;
    let differs = [
        ("listener", !alike(listeners, &asked.listeners)),
        ("workers", *workers != asked.workers),
        ("steer", *steer != asked.steer),
        ("pin", *pin != asked.pin),
        ("batch", *batch != asked.batch),
        ("gso", *gso != asked.gso),
        ("coalesce-us", *coalesce != asked.coalesce),
        ("spin-us", *spin != asked.spin),
        ("receive-buffer", *receive_buffer != asked.receive_buffer),
        ("send-buffer", *send_buffer != asked.send_buffer),
        ("secret-file", *secret_file != asked.secret_file),
        ("reply-rate", *reply_rate != asked.reply_rate),
        ("resolve", *resolve != asked.resolve),
        ("resolver", *resolvers != asked.resolvers),
        ("stateful", *methods != asked.stateful.methods),
        ("transactions", *transactions != asked.stateful.transactions),
        ("admin", *admin != asked.admin),
        ("mirror", *mirror != asked.mirror),
        ("log.format", log.format != asked.log.format),
        ("accounting", *accounting != asked.stateful.accounting),
    ];
    let differs = differs.into_iter().filter(|(_, differs)| *differs);
    differs.map(|(key, _)| key).collect()
}

/// Whether the sockets are the same, and what our Via says of them.
fn alike(running: &[Listener], asked: &[Listener]) -> bool {
    let fixed = |listener: &Listener| {
        let Listener {
            name,
            address,
            advertise,
            proxy_protocol: _,
            record_route: _,
            path: _,
            egress: _,
        } = listener;
        (name.clone(), *address, advertise.clone())
    };
    running.iter().map(fixed).eq(asked.iter().map(fixed))
}
