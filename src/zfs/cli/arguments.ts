/** What is checked before a command gets it, because `zfs` would take it for something else or could not give it back. */
import type { Properties } from '../../core/events.ts';
import type { HoldTag } from '../../core/ids.ts';
import { zfsFailure } from '../failure.ts';

const PROPERTY_NAME = /^[a-z0-9][a-z0-9:_.@-]*$/;

/**
 * Throws `ZFS_UNSUPPORTED` for a property's name that could be an option, and for a value with control characters: `zfs get` prints a newline as
 * it is, so a value could pass for another line.
 */
export function checkProperties(properties: Properties, action: string): void {
  for (const [name, value] of Object.entries(properties)) {
    if (!PROPERTY_NAME.test(name)) refuse('ZFS_UNSUPPORTED', action, `invalid property '${name}'`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    if (/[\0-\x1f\x7f]/.test(value)) refuse('ZFS_UNSUPPORTED', action, `the value of '${name}' has control characters`);
  }
}

/** Throws `ZFS_NAME_REFUSED` for a tag that could be an option. */
export function checkTag(tag: HoldTag): void {
  if (!/^[^-.\s]\S*$/.test(tag)) refuse('ZFS_NAME_REFUSED', `hold under ${tag}`, 'a tag begins with a letter or digit');
}

function refuse(code: 'ZFS_UNSUPPORTED' | 'ZFS_NAME_REFUSED', action: string, detail: string): never {
  throw zfsFailure(code, { action, command: [] }, { exitCode: null, stderr: '' }, detail);
}
