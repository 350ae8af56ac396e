import { describe, expect, it, test } from 'vitest';
import {
  ACTIONS,
  type Action,
  allows,
  type Grants,
  isAllowed,
  ROLES,
  type Role,
  roleIn,
} from '../../src/core/grants.ts';
import { ADMIN_TREE, type TreeName } from '../../src/core/ids.ts';
import { signerOf } from '../log/identity.ts';

const MAY: Readonly<Record<Role, readonly Action[]>> = {
  reader: ['read'],
  contributor: ['read', 'contribute'],
  standby: ['read', 'contribute', 'take'],
  operator: ['read', 'contribute', 'take', 'operate'],
};

const PEER = signerOf(1).node;
const STRANGER = signerOf(2).node;
const tree = (name: string) => name as TreeName;

function granted(given: Readonly<Record<string, Role>>): Grants {
  return new Map([[PEER, new Map(Object.entries(given))]]);
}

describe.each(ROLES)('a %s', (role) => {
  test.each(ACTIONS)(`may "%s" as the table of roles says`, (action) => {
    expect(allows(role, action)).toBe(MAY[role].includes(action));
    expect(isAllowed(granted({ images: role }), PEER, tree('images'), action)).toBe(MAY[role].includes(action));
  });
});

describe('a grant', () => {
  it('counts for its peer, and in the trees that its glob names', () => {
    const grants = granted({ 'images-*': 'reader' });
    expect(roleIn(grants, PEER, tree('images-web'))).toBe('reader');
    expect(roleIn(grants, PEER, tree('images'))).toBeNull();
    expect(roleIn(grants, STRANGER, tree('images-web'))).toBeNull();
  });

  it('gives the highest role of those that match', () => {
    const grants = granted({ '*': 'reader', images: 'operator', 'im*': 'contributor' });
    expect(roleIn(grants, PEER, tree('images'))).toBe('operator');
    expect(roleIn(grants, PEER, tree('homes'))).toBe('reader');
  });

  it('is the same however often it is asked for, and for however many names', () => {
    const grants = granted({ 'images-*': 'reader', 'images-7*': 'standby' });
    const names = Array.from({ length: 1_500 }, (_, index) => tree(`images-${index}`));
    for (const name of [...names, ...names]) {
      expect(roleIn(grants, PEER, name)).toBe(name.startsWith('images-7') ? 'standby' : 'reader');
    }
  });

  it('never reaches the private streams of a node', () => {
    const grants = granted({ '*': 'operator', '.*': 'operator', [ADMIN_TREE]: 'operator' });
    expect(roleIn(grants, PEER, ADMIN_TREE)).toBeNull();
  });
});

test('the least role for an action allows it, and no lesser one does', () => {
  for (const action of ACTIONS) {
    const least = ROLES.findIndex((role) => MAY[role].includes(action));
    expect(ROLES.map((role) => allows(role, action))).toEqual(ROLES.map((_, at) => at >= least));
  }
});
