// One tab of a browser: a window with an application in it, put together as the packages' own tutorial does.
'use strict';

const { requireWithin } = require('./modules.js');

// How the application packs its messages. The plugin's messages have no id of their own, and without one its promises
// are rejected by the socket package itself, so that it needs one of these.
const ENVELOPERS = {
    // The package's own, by its defaults: {"data": message, "id": uuid}.
    enveloped: Enveloper => new Enveloper.Id(),
    // The package's own, with a property of the message at the top as well.
    elevated: Enveloper => new Enveloper.Id({ elevate: ['type'] }),
    // The application's own, which its interface is for: the message itself, with an id.
    bare: () => {
        let number = 0;
        return { wrap: message => ({ ...message, id: `message ${(number += 1)}` }), unwrap: answer => answer };
    },
};

const RETRY_MILLISECONDS = 50; // the package's default of a second would only make the tests wait

/** Opens the application in a window of `jsdom`; `tell(what, details)` hears what a developer would see of it. */
function openTab({ jsdom, folder, jar, http, ws, enveloper, tell, stored }) {
    const console = new jsdom.VirtualConsole();
    console.on('error', (...said) => tell('trouble', { said: said.map(String).join(' ') }));
    console.on('jsdomError', error => tell('trouble', { said: String(error.detail?.stack ?? error.stack) }));
    const options = { url: `${http}/`, cookieJar: jar, virtualConsole: console, runScripts: 'outside-only' };
    const dom = new jsdom.JSDOM('<!doctype html><div id="app"></div>', options);
    const { window } = dom;
    watchRequests(window, tell);
    watchSockets(window, tell);
    shareStorage(window, stored);

    const require = requireWithin(dom.getInternalVMContext(), folder);
    const { Socket, Enveloper } = require('@fantaptik/socket');
    const { Reducer, SocketPlugin } = require('@fantaptik/react-auth');
    const { combineReducers, createStore } = require('redux');
    const { Provider } = require('react-redux');
    const { createElement } = require('react');
    const { render } = require('react-dom');

    const auth = new SocketPlugin();
    new Socket({
        uriProvider: () => `${ws}/react-auth`,
        retryProvider: () => RETRY_MILLISECONDS,
        enveloper: ENVELOPERS[enveloper](Enveloper),
        plugins: [auth],
        onconnect: () => tell('connected'),
        ondisconnect: () => tell('disconnected'),
        ondata: ({ data }) => tell('notified', { data }),
    });

    const store = createStore(combineReducers({ auth: Reducer }));
    const state = () => {
        const { rejected, resuming, session, user, username } = store.getState().auth;
        return { rejected, resuming, session, user, username };
    };
    store.subscribe(() => tell('state', state()));

    const { Guest, LoginForm, Authenticated } = auth.React;
    const form = createElement(LoginForm, { uriLogin: `${http}/react-auth`, uriResume: '/react-auth' });
    const app = [
        createElement(Guest, { key: 'guest' }, form),
        createElement(Authenticated, { key: 'authenticated' }, createElement('p', {}, 'Welcome')),
    ];
    render(createElement(Provider, { store }, app), window.document.getElementById('app'));

    return {
        window,
        logIn: (username, password) => {
            const fill = (name, text) => {
                const field = window.document.querySelector(`input[id^="${name}-"]`);
                // React listens to the prototype's setter; its own on the element would hide the change from it.
                Object.getOwnPropertyDescriptor(window.HTMLInputElement.prototype, 'value').set.call(field, text);
                field.dispatchEvent(new window.Event('input', { bubbles: true }));
            };
            fill('username', username);
            fill('password', password);
            window.document.querySelector('.login-form button, .login-form .btn').click();
        },
        logOut: () => auth.logout(),
        // What another script of the same page may do: a form of its own, with this browser's cookies.
        post: (path, fields, bearer) => {
            const request = new window.XMLHttpRequest();
            request.open('POST', path);
            if (bearer) {
                request.setRequestHeader('Authorization', `Bearer ${bearer}`);
            }
            request.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
            request.send(new URLSearchParams(fields).toString());
        },
        close: () => window.close(),
    };
}

/** Tells of every HTTP request that was answered, as the network panel of a browser does. */
function watchRequests(window, tell) {
    const { send } = window.XMLHttpRequest.prototype;
    window.XMLHttpRequest.prototype.send = function (body) {
        this.addEventListener('loadend', () => {
            const { status, responseText } = this;
            tell('posted', {
                path: new URL(this.responseURL || window.location).pathname,
                type: new URLSearchParams(body ?? '').get('type'),
                status,
                answer: readable(responseText),
                retry_after: this.getResponseHeader('Retry-After'),
            });
        });
        return send.call(this, body);
    };
}

/** Tells of every message that goes out or comes in by a socket, and of how each socket was closed. */
function watchSockets(window, tell) {
    window.WebSocket = class extends window.WebSocket {
        constructor(...given) {
            super(...given);
            this.addEventListener('message', ({ data }) => tell('received', { message: readable(data) }));
            this.addEventListener('close', ({ code }) => tell('closed', { code }));
        }

        send(message) {
            tell('sent', { message: readable(message) });
            super.send(message);
        }
    };
}

/** jsdom keeps a storage for each page, a browser one for each origin: other tabs hear what one of them wrote. */
function shareStorage(window, stored) {
    const { setItem, removeItem } = window.Storage.prototype;
    window.Storage.prototype.setItem = function (key, value) {
        const oldValue = this.getItem(key);
        setItem.call(this, key, value);
        stored({ key, oldValue, newValue: String(value) });
    };
    window.Storage.prototype.removeItem = function (key) {
        const oldValue = this.getItem(key);
        removeItem.call(this, key);
        stored({ key, oldValue, newValue: null });
    };
}

/** Tells a tab what another one wrote into the storage that they share. */
function hearStorage(window, change) {
    window.setTimeout(() => window.dispatchEvent(new window.StorageEvent('storage', change)), 0);
}

function readable(text) {
    try {
        return JSON.parse(text);
    } catch {
        return text;
    }
}

module.exports = { openTab, hearStorage };
