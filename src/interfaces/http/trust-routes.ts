import type { FastifyInstance } from 'fastify';
import { parseInvitationId, parseNodeId } from '../../core/ids.ts';
import { addPeerSchema, checked, giveGrantSchema, inviteSchema, joinSchema, revokeGrantSchema } from './requests.ts';
import type { DaemonServices } from './services.ts';
import { peersOf } from './status.ts';

/** Who is trusted with what: peers, their grants, and invitations; and the key that peers know this node by. */
export function trustRoutes(app: FastifyInstance, services: DaemonServices): void {
  const { peers, grants, invitations, presence, rotateKey } = services;

  app.post('/v1/node/key', async () => ({ keys: await rotateKey() }));

  app.get('/v1/peers', () => peersOf(services));
  app.post('/v1/peers', async ({ body }, reply) => {
    const { node, grants: given, ...peer } = checked(addPeerSchema, body);
    await peers.add({ peer: parseNodeId(node), ...peer }, given);
    return reply.code(204).send();
  });
  app.delete<{ Params: { peer: string } }>('/v1/peers/:peer', async ({ params }, reply) => {
    await peers.remove(peers.resolve(params.peer).peer);
    return reply.code(204).send();
  });

  app.get('/v1/grants', () => grants.list());
  app.post('/v1/grants', async ({ body }, reply) => {
    const { peer, ...grant } = checked(giveGrantSchema, body);
    await grants.give(peers.resolve(peer).peer, grant);
    return reply.code(204).send();
  });
  app.delete('/v1/grants', async ({ query }, reply) => {
    const { peer, trees } = checked(revokeGrantSchema, query);
    await grants.revoke(peers.resolve(peer).peer, trees);
    return reply.code(204).send();
  });

  app.get('/v1/invitations', () => invitations.list());
  app.post('/v1/invitations', async ({ body }) => {
    const { address, ...request } = checked(inviteSchema, body);
    return { line: await invitations.make({ ...request, address: address ?? presence.address }) };
  });
  app.delete<{ Params: { invitation: string } }>('/v1/invitations/:invitation', async ({ params }, reply) => {
    await invitations.withdraw(parseInvitationId(params.invitation));
    return reply.code(204).send();
  });
  app.post('/v1/joins', ({ body }) => {
    const { line, name, address, ...given } = checked(joinSchema, body);
    const self = { name: name ?? presence.name, address: address ?? presence.publicAddress };
    return invitations.join(line, { ...given, ...self });
  });
}
