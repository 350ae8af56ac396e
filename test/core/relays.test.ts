import { describe, expect, it } from 'vitest';
import { EMPTY_ADMIN_STATE, mirrorKey } from '../../src/core/admin.ts';
import { ROLES, type Role } from '../../src/core/grants.ts';
import type { DatasetName, NodeId, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { countsHere, isHandedOn } from '../../src/core/relays.ts';

const images = 'images' as TreeName;
const author = 'author' as NodeId;
const peer = 'peer' as NodeId;

/** A node that shares `images`, knows both, and has granted them roles there. */
function settings(authorIs: Role | null, peerIs: Role | null = null, isMirrored = false) {
  const roles = [
    [author, authorIs],
    [peer, peerIs],
  ] as const;
  const root = 'tank/images' as DatasetName;
  const mirror = { tree: images, from: author, root, ...EVERYTHING };
  return {
    ...EMPTY_ADMIN_STATE,
    peers: new Map([author, peer].map((node) => [node, { peer: node, name: node, address: null, trustedLink: false }])),
    grants: new Map(roles.flatMap(([node, role]) => (role === null ? [] : [[node, new Map([['*', role]])]]))),
    trees: new Map([[images, { tree: images, root }]]),
    mirrors: new Map(isMirrored ? [[mirrorKey(mirror), mirror]] : []),
  };
}

describe('What a node says of a tree counts where', () => {
  it.each([null, ...ROLES])(
    'it may take over datasets there, or is mirrored from, whatever else it is (%s)',
    (role) => {
      expect(countsHere(settings(role), author, images)).toBe(role === 'standby' || role === 'operator');
      expect(countsHere(settings(role, null, true), author, images)).toBe(true);
    },
  );

  it('there is such a tree', () => {
    expect(countsHere(settings('operator'), author, 'homes' as TreeName)).toBe(false);
  });

  it('it is a peer', () => {
    expect(countsHere({ ...settings('operator', null, true), peers: new Map() }, author, images)).toBe(false);
  });

  it('it is about a tree, and not about the node itself', () => {
    expect(countsHere(settings('operator'), author, '.admin' as TreeName)).toBe(false);
  });
});

describe('It is handed on', () => {
  it.each([null, ...ROLES])('to who may bring datasets into the tree (%s)', (role) => {
    const isContributor = role !== null && role !== 'reader';
    expect(isHandedOn(settings('standby', role), peer, author, images)).toBe(isContributor);
    expect(isHandedOn(settings(null, role, true), peer, author, images)).toBe(isContributor);
  });

  it('where it counts', () => {
    expect(isHandedOn(settings('reader', 'operator'), peer, author, images)).toBe(false);
  });
});
