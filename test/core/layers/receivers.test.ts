import { describe, expect, it } from 'vitest';
import type { NodeId } from '../../../src/core/ids.ts';
import { PROPERTY_BYTES_MAX } from '../../../src/core/layers/layer-names.ts';
import { isReceived, withoutReceiver, withReceiver } from '../../../src/core/layers/receivers.ts';

const PROPERTY = 'pando:received-by';

function peer(number: number): NodeId {
  return String(number).padStart(56, 'A') as NodeId;
}

describe('Who has received a layer', () => {
  it('is nobody as long as it says nothing', () => {
    expect(isReceived({})).toBe(false);
    expect(withoutReceiver({}, peer(1))).toBeUndefined();
  });

  it('is told peer by peer, each once', () => {
    const one = withReceiver({}, peer(1)) ?? '';
    const two = withReceiver({ [PROPERTY]: one }, peer(2)) ?? '';
    expect(two).toBe(`${peer(1)},${peer(2)}`);
    expect(isReceived({ [PROPERTY]: two })).toBe(true);
    expect(withReceiver({ [PROPERTY]: two }, peer(1))).toBeUndefined();
    expect(withoutReceiver({ [PROPERTY]: two }, peer(1))).toBe(peer(2));
    expect(withoutReceiver({ [PROPERTY]: peer(2) }, peer(2))).toBeNull();
    expect(withoutReceiver({ [PROPERTY]: peer(2) }, peer(3))).toBeUndefined();
  });

  it('is many once there are more than a property has room for, and none of those is forgotten', () => {
    let properties: Record<string, string> = {};
    for (let number = 0; ; number += 1) {
      const told = withReceiver(properties, peer(number));
      if (told === undefined) break;
      expect(told.length).toBeLessThanOrEqual(PROPERTY_BYTES_MAX);
      properties = { [PROPERTY]: told };
    }
    expect(isReceived(properties)).toBe(true);
    expect(withoutReceiver(properties, peer(0))).toBeUndefined();
  });
});
