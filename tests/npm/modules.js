// Runs installed packages, as they are on disk, inside a page.
//
// The published files want `window`, `document`, `WebSocket` and `XMLHttpRequest` as globals. Node's own require would
// run them once, in Node's realm; each tab needs its own copy, in the realm of its window. A bundler would do that, and
// change the files on the way; this changes nothing.
'use strict';

const fs = require('node:fs');
const vm = require('node:vm');
const { createRequire } = require('node:module');

const compiled = new Map();

function compile(file) {
    // Compiled once, run in every tab: React alone would take longer to compile than a test takes.
    if (!compiled.has(file)) {
        const source = fs.readFileSync(file, 'utf8');
        compiled.set(file, new vm.Script(`(function (exports, require, module, process) {${source}\n})`, { filename: file }));
    }
    return compiled.get(file);
}

/** A `require` whose modules live in the window of `context`; `folder` has the node_modules that they come from. */
function requireWithin(context, folder) {
    const modules = new Map();
    // What bundlers put in its place; nothing else of Node is there.
    const process = { env: { NODE_ENV: 'production' } };

    function load(file) {
        if (!modules.has(file)) {
            const module = { exports: {} };
            modules.set(file, module); // before it runs: modules may require each other in a circle
            const resolve = createRequire(file).resolve;
            compile(file).runInContext(context)(module.exports, name => load(resolve(name)), module, process);
        }
        return modules.get(file).exports;
    }

    const resolve = createRequire(`${folder}/`).resolve;
    return name => load(resolve(name));
}

module.exports = { requireWithin };
