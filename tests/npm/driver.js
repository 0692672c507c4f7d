// Browsers without a screen, for a test in another language: commands come in by stdin and what happens in the tabs
// goes out by stdout, one JSON object a line. `node driver.js FOLDER`; FOLDER/node_modules has the packages.
'use strict';

const path = require('node:path');
const readline = require('node:readline');
const { createRequire } = require('node:module');
const { openTab, hearStorage } = require('./tab.js');

const folder = path.resolve(process.argv[2]);
const jsdom = createRequire(`${folder}/`)('jsdom');

const browsers = new Map(); // name -> { jar, tabs: name -> tab }: cookies and storage are a browser's, not a tab's

function say(told) {
    process.stdout.write(`${JSON.stringify(told)}\n`);
}

function browserOf(name) {
    if (!browsers.has(name)) {
        browsers.set(name, { jar: new jsdom.CookieJar(), tabs: new Map() });
    }
    return browsers.get(name);
}

const commands = {
    open({ browser, tab, http, ws, enveloper }) {
        const { jar, tabs } = browserOf(browser);
        const tell = (told, details) => say({ browser, tab, told, ...details });
        const stored = change => {
            for (const [name, other] of tabs) {
                if (name !== tab) {
                    hearStorage(other.window, change);
                }
            }
        };
        tabs.set(tab, openTab({ jsdom, folder, jar, http, ws, enveloper, tell, stored }));
    },
    log_in({ browser, tab, username, password }) {
        browserOf(browser).tabs.get(tab).logIn(username, password);
    },
    log_out({ browser, tab }) {
        browserOf(browser).tabs.get(tab).logOut();
    },
    post({ browser, tab, path: where, fields, bearer }) {
        browserOf(browser).tabs.get(tab).post(where, fields, bearer);
    },
    close({ browser, tab }) {
        const { tabs } = browserOf(browser);
        tabs.get(tab).close();
        tabs.delete(tab);
        say({ browser, tab, told: 'gone' });
    },
};

// The packages' chains of promises have no catch: what a page would only write into its console is told as trouble.
process.on('unhandledRejection', reason => say({ told: 'trouble', said: String(reason?.stack ?? reason) }));
process.on('uncaughtException', error => say({ told: 'trouble', said: String(error.stack) }));

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', line => {
    const { command, ...details } = JSON.parse(line);
    commands[command](details);
});
lines.on('close', () => process.exit(0));
