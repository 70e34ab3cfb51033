#!/usr/bin/env node
// The sources are TypeScript and stay so: tsx compiles them as they are imported, there is no build step.
import { register } from 'tsx/esm/api';

register();
await import('../cli/main.ts');
