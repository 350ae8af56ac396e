/** `npm run sim`: dependencies and build first, with Node's own modules only, then the simulator itself. */
import { ensureBuild, ensureDependencies } from '../../peers/provision/bootstrap.mjs';

await ensureDependencies();
await ensureBuild();
await import(new URL('../../dist/test/sim/sim.js', import.meta.url).href);
