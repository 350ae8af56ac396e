import { beforeEach, describe, expect, it } from 'vitest';
import type { DatasetName } from '../../../src/core/ids.ts';
import { MomentaryMounts } from '../../../src/zfs/cli/momentary-mounts.ts';

const NAME = 'tank/a' as DatasetName;

let mounted: Set<DatasetName>;
let happened: string[];
let mounts: MomentaryMounts;

beforeEach(() => {
  mounted = new Set();
  happened = [];
  const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
  mounts = new MomentaryMounts({
    mount: async (name) => {
      const wasMounted = mounted.has(name);
      await turn();
      if (!wasMounted) happened.push(`mount ${name}`);
      mounted.add(name);
      return { mountpoint: `/${name}`, wasMounted };
    },
    unmount: async (name) => {
      await turn();
      happened.push(`unmount ${name}`);
      mounted.delete(name);
    },
  });
});

/** Looks until it is told to stop. */
function looker(): { readonly looked: Promise<boolean>; readonly stop: () => void } {
  let stop = (): void => undefined;
  const told = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const looked = mounts.during(NAME, async () => {
    await told;
    return mounted.has(NAME);
  });
  return { looked, stop };
}

describe('What is mounted to be looked at', () => {
  it('is as it was afterwards', async () => {
    expect(await mounts.during(NAME, async ({ mountpoint }) => mountpoint)).toBe('/tank/a');
    expect(happened).toEqual(['mount tank/a', 'unmount tank/a']);
    mounted.add(NAME);
    await mounts.during(NAME, async () => undefined);
    expect(mounted.has(NAME)).toBe(true);
  });

  it('is so also where looking failed', async () => {
    const failing = mounts.during(NAME, () => Promise.reject(new Error('no file')));
    await expect(failing).rejects.toThrow('no file');
    expect(mounted.size).toBe(0);
  });

  it('is mounted once, until the last has looked', async () => {
    const [first, second] = [looker(), looker()];
    first.stop();
    expect(await first.looked).toBe(true);
    expect(happened).toEqual(['mount tank/a']);
    second.stop();
    expect(await second.looked).toBe(true);
    expect(happened).toEqual(['mount tank/a', 'unmount tank/a']);
  });

  it('stays where it is mounted to stay meanwhile', async () => {
    const { looked, stop } = looker();
    await mounts.mount(NAME);
    stop();
    await looked;
    expect(mounted.has(NAME)).toBe(true);
  });

  it('is unmounted by nobody else while somebody looks', async () => {
    mounted.add(NAME);
    const { looked, stop } = looker();
    const unmounted = mounts.unmount(NAME);
    stop();
    expect(await looked).toBe(true);
    await unmounted;
    expect(happened).toEqual(['unmount tank/a']);
  });

  it('is there for each, however many come and go', async () => {
    const looks = Array.from({ length: 50 }, async (_, index) => {
      for (let wait = 0; wait < index % 7; wait += 1) await new Promise((resolve) => void setImmediate(resolve));
      return mounts.during(NAME, async () => {
        const before = mounted.has(NAME);
        await new Promise((resolve) => void setImmediate(resolve));
        return before && mounted.has(NAME);
      });
    });
    expect(await Promise.all(looks)).toEqual(looks.map(() => true));
    expect(mounted.size).toBe(0);
  });
});
