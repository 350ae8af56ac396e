import { parseAddress } from '../../src/sync/address.ts';
import { createIdentity, withNewKey } from '../../src/sync/identity.ts';
import { WebSocketTransport } from '../../src/sync/websocket-transport.ts';
import { describeTransport } from '../suites/transport-contract.ts';

const HOST = '127.0.0.1';

function createNode(port: number, identity = createIdentity()) {
  return { node: identity.node, transport: new WebSocketTransport({ identity, host: HOST, port }) };
}

describeTransport('the WebSocket transport', () => ({
  // Port 1 (tcpmux) is reserved and never served.
  deadAddress: `${HOST}:1`,
  createNode: () => createNode(0),
  createRotated: () => createNode(0, withNewKey(createIdentity())),
  createNodeAt: (address) => createNode(parseAddress(address).port),
}));
