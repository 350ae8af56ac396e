/** Plain values that are almost what they were: what a peer could say that knows the protocol and means harm. */
import type { Random } from '../random.ts';

/** How often a whole value is replaced rather than something in it. */
const WHOLE = 0.15;
const NONSENSE: readonly unknown[] = [null, true, 0, -1, 1.5, 2 ** 53, '', '..', 'a'.repeat(5_000), [], {}, [[[[]]]]];

/** The value with one thing in it changed, added or left out. */
export function altered(value: unknown, random: Random): unknown {
  if (value instanceof Uint8Array) return alteredBytes(value, random);
  if (typeof value !== 'object' || value === null || random.chance(WHOLE)) return strange(value, random);
  return Array.isArray(value) ? alteredList(value, random) : alteredFields(value, random);
}

/** The bytes with one of them changed. */
export function alteredBytes(bytes: Uint8Array, random: Random): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const index = random.below(copy.length);
  if (copy.length > 0) copy[index] = (copy[index] ?? 0) ^ (1 + random.below(255));
  return copy;
}

function alteredList(list: readonly unknown[], random: Random): unknown[] {
  if (list.length === 0) return [strange(null, random)];
  const index = random.below(list.length);
  const other = random.chance(0.2) ? [] : [altered(list[index], random)];
  return list.toSpliced(index, 1, ...(random.chance(0.1) ? [list[index], list[index]] : other));
}

function alteredFields(fields: object, random: Random): object {
  const names = Object.keys(fields);
  if (names.length === 0) return { more: strange(null, random) };
  const name = random.pick(names);
  const entries = Object.entries(fields).filter(([other]) => other !== name);
  if (random.chance(0.1)) return Object.fromEntries(entries);
  return Object.fromEntries([...entries, [name, altered(Reflect.get(fields, name), random)]]);
}

function strange(value: unknown, random: Random): unknown {
  if (random.chance(0.3)) return random.pick(NONSENSE);
  if (typeof value === 'number') return random.pick([value + 1, value - 1, -value, value * 2, Number.MAX_SAFE_INTEGER]);
  if (typeof value === 'string')
    return random.pick([`${value}/`, `../${value}`, value.slice(1), `${value}0`, 'images']);
  if (typeof value === 'boolean') return !value;
  return random.pick(NONSENSE);
}
