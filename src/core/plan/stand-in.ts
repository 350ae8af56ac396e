/**
 * A root that is a clone of something below itself can only be received beside, once that is here. Until then an empty stand-in has its place: it is
 * nobody's, and has the same id everywhere.
 */
import { type MutableDataset, NO_BOOKMARKS, NO_HOLDS } from '../graph/draft.ts';
import type { Dataset } from '../graph/graph.ts';
import { type RelativeName, ROOT_STAND_IN } from '../ids.ts';
import { PLACEHOLDER_PROPERTY } from './steps.ts';

export const ROOT_NAME = '' as RelativeName;

/** The stand-in for a root. */
export function standInFor({ owner }: Pick<Dataset, 'owner'>): MutableDataset {
  return {
    id: ROOT_STAND_IN,
    kind: 'filesystem',
    guid: '0',
    name: ROOT_NAME,
    origin: null,
    owner,
    properties: { [PLACEHOLDER_PROPERTY]: 'on' },
    snapshots: [],
    bookmarks: NO_BOOKMARKS,
    holds: NO_HOLDS,
    received: null,
  };
}
