import type { Properties } from '../../core/events.ts';
import { Refusal } from './refusal.ts';

const ON_OFF = ['on', 'off'];
/** The settable native properties that MemoryZfs knows, with their values, or null for any (zfsprops.7). */
const NATIVE: Readonly<Record<string, readonly string[] | null>> = {
  atime: ON_OFF,
  canmount: ['on', 'off', 'noauto'],
  compression: null,
  copies: ['1', '2', '3'],
  devices: ON_OFF,
  exec: ON_OFF,
  mountpoint: null,
  quota: null,
  readonly: ON_OFF,
  recordsize: null,
  refquota: null,
  reservation: null,
  setuid: ON_OFF,
  snapdir: ['hidden', 'visible'],
  xattr: null,
};

/** Longest value of a user property, in bytes (zfsprops.7). */
const USER_VALUE_BYTES_MAX = 8191;

/** Refuses what `zfs set` would refuse: unknown native properties and values, and malformed user properties. */
export function checkProperties(properties: Properties): void {
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes(':')) checkUserProperty(name, value);
    else checkNativeProperty(name, value);
  }
}

function checkUserProperty(name: string, value: string): void {
  // As the command line driver, which could not read such a value back
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\0-\x1f\x7f]/.test(value))
    throw new Refusal('ZFS_UNSUPPORTED', `the value of '${name}' has control characters`);
  if (!/^[a-z0-9:_.-]+$/.test(name)) throw new Refusal('ZFS_UNSUPPORTED', `invalid property '${name}'`);
  if (Buffer.byteLength(value) > USER_VALUE_BYTES_MAX) {
    throw new Refusal('ZFS_UNSUPPORTED', `the value of '${name}' is too long`);
  }
}

function checkNativeProperty(name: string, value: string): void {
  const values = Object.hasOwn(NATIVE, name) ? NATIVE[name] : undefined;
  if (values === undefined) throw new Refusal('ZFS_UNSUPPORTED', `invalid property '${name}'`);
  if (values !== null && !values.includes(value)) {
    throw new Refusal('ZFS_UNSUPPORTED', `'${name}' must be one of '${values.join(' | ')}'`);
  }
}
