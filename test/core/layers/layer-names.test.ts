import { describe, expect, it } from 'vitest';
import type { RelativeName } from '../../../src/core/ids.ts';
import { type ChainId, digestOf } from '../../../src/core/layers/digest.ts';
import { contestedLayerOf, layerName, layerOf, rootIdOf, rootName } from '../../../src/core/layers/layer-names.ts';

const chain = digestOf('layer') as ChainId;
const base = 'team' as RelativeName;

describe('Names in a layer store', () => {
  it('tell layers and roots below their base, and nothing else', () => {
    expect(layerName(base, chain)).toBe(`team/storage/${chain}`);
    expect(layerOf(base, layerName(base, chain))).toBe(chain);
    expect(layerOf('' as RelativeName, layerName('' as RelativeName, chain))).toBe(chain);
    expect(layerOf(base, layerName('' as RelativeName, chain))).toBeUndefined();
    expect(layerOf(base, layerName(base, null))).toBeUndefined();
    expect(rootIdOf(base, rootName(base, 'web-1'))).toBe('web-1');
    expect(rootIdOf(base, 'team/runtime/web-1/below' as RelativeName)).toBeUndefined();
  });

  it('tell a layer of two nodes by either name, as a parent only', () => {
    const contested = `${layerName(base, chain)}-0123456789ab` as RelativeName;
    expect(contestedLayerOf(base, contested)).toBe(chain);
    expect(layerOf(base, contested)).toBeUndefined();
  });

  it.each(['', '.', '..', 'a/b', '-a', 'a b', 'a@b', 'x'.repeat(129)])('have no root of the id %j', (id) => {
    expect(() => rootName(base, id)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }));
  });
});
