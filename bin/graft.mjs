#!/usr/bin/env node
import module from 'node:module';
import { pathToFileURL } from 'node:url';
import { compiledCli } from './compiled-cli.mjs';

// Node 22.8 and later keep compiled code between runs; Node 20 has no such call.
module.enableCompileCache?.();
process.setSourceMapsEnabled(true);
await import(pathToFileURL(await compiledCli()).href);
