"""Says what network-config-analyzer allows, packet by packet: a question a line, an answer a line.

In:  {"namespaces": [...], "pods": [...], "policies": [...], "packets": [[from, to, protocol, port], ...]}; the first
     three are manifests, an end is "namespace/pod" or an address.
Out: {"allowed": "0110..."}, a digit for each packet, or {"error": "..."}.

The package is asked through its classes: its own output merges rules and writes them as text.
"""
import json
import sys

from nca.CoreDS.Peer import BasePeerSet, IpBlock, PeerSet
from nca.CoreDS.ProtocolNameResolver import ProtocolNameResolver
from nca.NetworkConfig.NetworkConfig import NetworkConfig
from nca.NetworkConfig.PeerContainer import PeerContainer
from nca.NetworkConfig.PoliciesFinder import PoliciesFinder
from nca.NetworkConfig.TopologyObjectsFinder import NamespacesFinder, PodsFinder
from nca.Resources.PolicyResources.NetworkPolicy import PolicyConnectionsFilter


def read(question):
    """The cluster of a question, and its pods by name."""
    BasePeerSet.reset()
    namespaces = NamespacesFinder()
    for manifest in question['namespaces']:
        namespaces.parse_yaml_code_for_ns(manifest)
    pods = PodsFinder()
    pods.namespaces_finder = namespaces
    for manifest in question['pods']:
        pods.add_eps_from_yaml(manifest)
    peers = PeerContainer(pods.peer_set, namespaces.namespaces, [], pods.representative_peers)
    policies = PoliciesFinder()
    policies.set_peer_container(peers)
    for manifest in question['policies']:
        policies.parse_yaml_code_for_policy(manifest, 'standard input')
    policies.parse_policies_in_parse_queue()
    return NetworkConfig('question', peers, policies), {pod.full_name(): pod for pod in pods.peer_set}


def answer(question):
    """A digit for each packet."""
    config, pods = read(question)
    wanted = PolicyConnectionsFilter.only_all_allowed_connections()
    allowed = config.filter_conns_by_peer_types(config.allowed_connections(res_conns_filter=wanted).all_allowed_conns)
    cubes = [allowed.get_connectivity_cube(cube) for cube in allowed]

    def holding(dimension, number):
        """The cubes that hold a number in a dimension."""
        return {at for at, cube in enumerate(cubes) if number in cube.get_dim_directly(dimension)}

    def number(end):
        """The number of an end in the dimensions of peers."""
        peer = pods[end] if '/' in end else IpBlock(end)
        return BasePeerSet().get_peer_interval_of(PeerSet({peer})).interval_set[0].start

    ends = {end for packet in question['packets'] for end in packet[:2]}
    sources = {end: holding('src_peers', number(end)) for end in ends}
    targets = {end: holding('dst_peers', number(end)) for end in ends}
    protocols = {name: holding('protocols', ProtocolNameResolver.get_protocol_number(name))
                 for name in {packet[2] for packet in question['packets']}}
    ports = {port: holding('dst_ports', port) for port in {packet[3] for packet in question['packets']}}
    digits = ('1' if sources[source] & targets[target] & protocols[protocol] & ports[port] else '0'
              for source, target, protocol, port in question['packets'])
    return ''.join(digits)


def main():
    """Answers until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # the package prints warnings
    for line in sys.stdin:
        try:
            said = {'allowed': answer(json.loads(line))}
        except Exception as error:  # pylint: disable=broad-except
            said = {'error': f'{type(error).__name__}: {error}'}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == '__main__':
    main()
