import { z } from 'zod';
import { treeName } from '../../core/event-fields.ts';

/** The method by which a peer asks whether it may take over datasets of a tree. */
export const TAKE = 'ownership.take';

export const takeSchema = z.strictObject({ tree: treeName });
