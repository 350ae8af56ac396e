/** `npm run torture`: dependencies and build first, with Node's own modules only, then the torture itself. */
import { ensureBuild, ensureDependencies } from '../../peers/provision/bootstrap.mjs';

await ensureDependencies();
await ensureBuild();
await import(new URL('../../dist/test/torture/main.js', import.meta.url).href);
