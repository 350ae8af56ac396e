import { PandoError } from '../../src/core/errors.ts';
import type { Properties } from '../../src/core/events.ts';
import { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import type { ListedDataset } from '../../src/zfs/zfs.ts';

/** A ZFS whose datasets are volumes where their names end with "vol", or once did: it refuses to set or clone them with what does not apply to those (zfsprops.7). */
export class ZfsWithVolumes extends MemoryZfs {
  readonly #volumes = new Set<string>();

  override async list(...given: Parameters<MemoryZfs['list']>) {
    return (await super.list(...given)).map((one) => this.#kinded(one));
  }

  override async listOnly(...given: Parameters<MemoryZfs['listOnly']>) {
    return (await super.listOnly(...given)).map((one) => this.#kinded(one));
  }

  override async clone(...given: Parameters<MemoryZfs['clone']>): Promise<void> {
    const [origin, , properties] = given;
    const [from] = await this.listOnly([origin.dataset]);
    if (from?.kind === 'volume') refuse(properties);
    await super.clone(...given);
    const [made] = await super.listOnly([given[1]]);
    if (from?.kind === 'volume' && made !== undefined) this.#volumes.add(made.guid);
  }

  override async setProperties(...given: Parameters<MemoryZfs['setProperties']>): Promise<void> {
    if ((await this.listOnly(given[0])).some(({ kind }) => kind === 'volume')) refuse(given[1]);
    await super.setProperties(...given);
  }

  #kinded(listed: ListedDataset): ListedDataset {
    if (listed.name.endsWith('vol')) this.#volumes.add(listed.guid);
    return this.#volumes.has(listed.guid) ? { ...listed, kind: 'volume' } : listed;
  }
}

function refuse(properties: Properties = {}): void {
  if (properties.canmount === undefined) return;
  throw new PandoError('ZFS_UNSUPPORTED', "'canmount' does not apply to datasets of this type");
}
