//! The pitfalls of NetworkPolicy that have to do with ports and protocols, as `pitfalls.rs` has the others.

use super::pitfalls::{NOTHING, ports, to_server, under};
use super::traps::training;
use crate::network::ports::PortSet;
use crate::network::reach::concrete::{Blocks, Connectivity};

#[test]
fn a_rule_of_ports_alone_is_for_everybody() {
    let dns = (
        "train",
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
    );
    // "53 to anywhere" is a path from training to inference, and to the whole Internet.
    assert_eq!(to_server(&[dns]), "UDP 53");
    assert_eq!(
        ports(&under(&[dns]), "train/job", "203.0.113.9", Blocks::External),
        "UDP 53"
    );
}

#[test]
fn ports_are_of_the_target_and_so_are_their_names() {
    let out = |port: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: [{port}]}}]}}");
    let into = |port: &str| format!("{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}");
    // The job calls its own port 80 http; the server calls 8080 so.
    assert_eq!(to_server(&[("train", &out("{port: http}"))]), "TCP 8080");
    assert_eq!(to_server(&[("infer", &into("{port: http}"))]), "TCP 8080");
    assert_eq!(
        to_server(&[("train", &out("{port: http}")), ("infer", &into("{port: 8080}"))]),
        "TCP 8080"
    );
    assert_eq!(
        to_server(&[("train", &out("{port: http}")), ("infer", &into("{port: 80}"))]),
        NOTHING
    );
    assert_eq!(
        to_server(&[("infer", &into("{port: http, protocol: UDP}"))]),
        NOTHING,
        "another protocol"
    );
    assert_eq!(
        to_server(&[("infer", &into("{port: metrics}"))]),
        NOTHING,
        "a name it does not have"
    );
    let named = under(&[("train", &out("{port: http}"))]);
    assert_eq!(
        ports(&named, "train/job", "203.0.113.9", Blocks::External),
        NOTHING,
        "no address has names"
    );
}

#[test]
fn a_port_without_protocol_is_tcp_and_a_protocol_without_port_is_all_of_it() {
    let into = |port: &str| format!("{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}");
    assert_eq!(to_server(&[("infer", &into("{port: 80}"))]), "TCP 80");
    assert_eq!(to_server(&[("infer", &into("{}"))]), "TCP 1-65535");
    assert_eq!(to_server(&[("infer", &into("{protocol: SCTP}"))]), "SCTP 1-65535");
    let out =
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: 80}]}]}";
    assert!(training(out).contains(" on TCP 80: "));
}

#[test]
fn end_port_is_part_of_the_range() {
    let spec = "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 85}, {port: 86, endPort: 86}, {port: 90, endPort: 65535}]}]}";
    assert_eq!(to_server(&[("infer", spec)]), "TCP 80-86, TCP 90-65535");
    for bad in ["{port: http, endPort: 90}", "{endPort: 90}", "{port: 90, endPort: 80}"] {
        let spec = format!("{{podSelector: {{}}, ingress: [{{ports: [{bad}]}}]}}");
        assert!(
            Connectivity::read(&under(&[("infer", &spec)]), Blocks::External).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn of_other_protocols_nothing_is_said() {
    // "All" is all of the three that NetworkPolicy knows, and no claim about ICMP.
    let read = under(&[]);
    let read = Connectivity::read(&read, Blocks::External).unwrap();
    let protocols = |ports: &PortSet| ports.intervals().len();
    assert!(read.connections().values().all(|ports| protocols(ports) == 3));
    let icmp = under(&[("infer", "{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}")]);
    assert!(Connectivity::read(&icmp, Blocks::External).is_err());
}
