//! What a service mesh does to packets on their way. A network policy is enforced outside of the pod, where the mesh has
//! already packed them up; which port is meant shows only inside.

use ipnet::IpNet;

use super::ports::PortSet;
use crate::api::network::Protocol;
use crate::api::policy::Mesh;

/// Istio's ambient mode: HBONE, from pod to pod.
const HBONE: u16 = 15008;
/// The inbound port of Linkerd's proxy, which replaces the port of the target between two meshed pods.
const LINKERD_INBOUND: u16 = 4143;
/// Where kubelet probes seem to come from in ambient mode, so that the mesh knows them. Addresses of the node itself.
const AMBIENT_PROBES: [&str; 2] = ["169.254.7.127/32", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128"];

/// The ports that a flow between two pods needs: its own, for pods outside of the mesh, and that of the tunnel. A sidecar of
/// Istio leaves the port as it is.
pub(super) fn through(mesh: Mesh, ports: &PortSet) -> PortSet {
    let tunnel = match mesh {
        Mesh::None | Mesh::Istio => return ports.clone(),
        Mesh::Ambient => HBONE,
        Mesh::Linkerd => LINKERD_INBOUND,
    };
    ports.union(&PortSet::single([(Protocol::TCP, tunnel)]))
}

/// Addresses that probes of kubelets come from, where those are not the node's own.
pub(super) fn probes(mesh: Mesh) -> Vec<IpNet> {
    let known: &[&str] = match mesh {
        Mesh::Ambient => &AMBIENT_PROBES,
        Mesh::None | Mesh::Istio | Mesh::Linkerd => &[],
    };
    known.iter().filter_map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use crate::api::stage::NamespaceStage;
    use crate::api::workload::Runtime;
    use crate::network::reach::{self, Isolation};
    use crate::network::world::World;
    use crate::network::{policies, testkit};

    fn world(mesh: &str) -> World {
        let mut world = testkit::world();
        world
            .stage("train", NamespaceStage::Training)
            .stage("serve", NamespaceStage::Inference)
            .stage("common", NamespaceStage::Shared)
            .plain("gateway", "")
            .policy(&format!(
                "{{mesh: {mesh}, services: [{{name: registry, to: {{namespace: common}}, ports: [{{port: 5000}}]}}], \
                  sources: [{{name: edge, kind: Gateway, from: {{namespace: gateway}}}}]}}"
            ))
            .workload("serve", "front", Runtime::Generic, "{connectTo: [{workload: {name: model}}, {service: registry}, {cidr: 192.0.2.0/24, ports: [{port: 443}]}]}")
            .workload("serve", "model", Runtime::VLLM, "{acceptFrom: [{workload: {name: front}}, {source: edge}]}")
            .workload("train", "road", Runtime::Generic, "{connectTo: [{service: registry}]}");
        world
    }

    /// The ports of every rule that names pods of another workload or an address, rendered: `namespace/policy: ports`.
    fn rules(mesh: &str) -> Vec<String> {
        let mut found = Vec::new();
        for policy in policies::all(&world(mesh)) {
            let value = serde_json::to_value(&policy).unwrap();
            for rules in ["egress", "ingress"] {
                for rule in value["spec"][rules].as_array().unwrap_or(&Vec::new()) {
                    let ports = rule["ports"].as_array().unwrap().iter();
                    let ports: Vec<String> = ports.map(|port| port["port"].to_string()).collect();
                    let name = value["metadata"]["name"].as_str().unwrap();
                    found.push(format!("{name} {rules}: {}", ports.join(",")));
                }
            }
        }
        found
    }

    #[test]
    fn every_flow_between_pods_has_the_tunnel_and_no_other_has() {
        for (mesh, tunnel) in [("Ambient", "15008"), ("Linkerd", "4143")] {
            let plain = rules("None");
            let meshed = rules(mesh);
            let with = |rule: &str, ports: &str| {
                assert!(plain.contains(&format!("{rule}: {ports}")), "{plain:?}");
                let mut numbers: Vec<u32> = ports.split(',').map(|port| port.parse().unwrap()).collect();
                numbers.push(tunnel.parse().unwrap());
                numbers.sort_unstable();
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                let wanted = format!("{rule}: {}", numbers.join(","));
                assert!(meshed.contains(&wanted), "{wanted}: {meshed:?}");
            };
            with("cloison-wl-front egress", "8000");
            with("cloison-wl-front egress", "5000");
            with("cloison-wl-model ingress", "8000");
            with("cloison-svc-registry ingress", "5000");
            assert!(
                meshed.contains(&"cloison-wl-front egress: 443".to_owned()),
                "an address is in no mesh"
            );
            assert!(
                !meshed.iter().any(|rule| rule.contains("53") && rule.contains(tunnel)),
                "{meshed:?}"
            );
        }
        assert_eq!(rules("None"), rules("Istio"), "a sidecar leaves the port as it is");
    }

    #[test]
    fn in_ambient_mode_probes_get_in_and_nothing_else_does() {
        let world = world("Ambient");
        let all = policies::all(&world);
        let probed = all
            .iter()
            .filter(|policy| serde_json::to_string(policy).unwrap().contains("169.254.7.127/32"));
        assert_eq!(probed.count(), 3, "each workload");
        let mut unknown = world.clone();
        unknown.cluster.ranges = None;
        for (world, isolated) in [(&world, &["serve", "train"][..]), (&unknown, &["train"])] {
            let analysis = reach::analyse(world, &policies::all(world), &[]);
            for name in isolated {
                assert_eq!(analysis.namespaces[*name], Isolation::Isolated, "{name}");
            }
            assert!(analysis.findings.is_empty(), "{:?}", analysis.findings);
        }
    }
}
