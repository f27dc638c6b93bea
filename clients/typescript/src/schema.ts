// Written by `npm run client` from the OpenAPI document. Change the routes, not this file.
export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * See whether the service answers
         * @description For whoever opens the address: says that there is a service, and no more.
         */
        get: operations["getRoot"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * See whether the process is alive
         * @description For whoever restarts processes: it asks nobody, so that an outage of the database restarts nothing.
         */
        get: operations["getHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * See whether the service can do its work
         * @description For load balancers. 503 `not_ready` while the database cannot be reached or its registry is not migrated.
         */
        get: operations["getReadiness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get figures for monitors
         * @description In Prometheus' text format. Where METRICS_TOKEN is set it is sent as `Authorization: Bearer <token>`; in production the path does not exist without it.
         */
        get: operations["getMetrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/login/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Log in as an operator
         * @description With a second factor on, the answer is `requires_2fa` and a `session_id` for the second step. An unknown address, a wrong password, a disabled and a locked account are answered alike; five wrong passwords from one network lock the account for that network for 30 minutes. Counted by the limit *login*.
         */
        post: operations["logInOperator"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/login-2fa-verify-code/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Finish an operator's login with a code
         * @description A code of the authenticator app; each is accepted once. Five wrong ones in a row and none is accepted for 30 minutes. Counted by the limit *login*.
         */
        post: operations["verifyOperatorLoginCode"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/token/refresh/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Exchange an operator's refresh token
         * @description The token rotates. The one before is answered with the current one for 30 seconds; anything older ends the login. A login lasts 12 hours at the longest. Counted by the limit *token refresh*.
         */
        post: operations["refreshOperatorTokens"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/logout/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Log out as an operator
         * @description The login ends at once, with every support token of the operator.
         */
        post: operations["logOutOperator"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/2fa/enable/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Begin to use an authenticator app
         * @description In force once `2fa/confirm/` has seen a code. Compulsory in production.
         */
        post: operations["enableOperatorSecondFactor"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/2fa/confirm/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Turn an operator's second factor on with its first code
         * @description From now on every login asks for a code.
         */
        post: operations["confirmOperatorSecondFactor"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List all tenants
         * @description Oldest first. `search` finds parts of names, subdomains and domains.
         */
        get: operations["listTenants"];
        put?: never;
        /**
         * Create a tenant
         * @description With its schema, role, tables and owner: all of it or nothing. Without a password for the owner the answer has a link to set one, this once.
         */
        post: operations["createTenant"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a tenant
         * @description With how far its schema is.
         */
        get: operations["getTenant"];
        put?: never;
        post?: never;
        /**
         * Suspend a tenant until it is erased
         * @description Nothing is deleted yet, and activating takes it back. When the grace is over whoever is at the machine erases it (`npm run tenant -- delete`).
         */
        delete: operations["deleteTenant"];
        options?: never;
        head?: never;
        /**
         * Change a tenant's name, subdomain, messages or plan
         * @description A new subdomain holds at once; links that were sent name the old one, which another tenant can take.
         */
        patch: operations["changeTenant"];
        trace?: never;
    };
    "/api/platform/tenants/{id}/usage/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * How much there is of a tenant
         * @description Counted when it is asked for, at most 5 seconds a statement. Log entries are estimated.
         */
        get: operations["getTenantUsage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/suspend/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Suspend a tenant
         * @description Every request to it is answered 403 `tenant_suspended`; nothing is deleted.
         */
        post: operations["suspendTenant"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/activate/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Let a tenant work again
         * @description Takes it back to `active`, whether it was suspended, read-only or about to be deleted.
         */
        post: operations["activateTenant"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/read-only/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a tenant read-only
         * @description Every request that changes something is answered 403 `tenant_read_only`, logins included.
         */
        post: operations["makeTenantReadOnly"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/migrations/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List how far the tenants' schemas are
         * @description The ledger, failures first.
         */
        get: operations["listMigrations"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/support-token/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a token to act in a tenant
         * @description For 15 minutes, in this tenant alone, as an admin of it; it reads only unless `write` is asked for. The tenant's security log says so, with the reason, and names the operator wherever something is changed. It ends with the operator's logout.
         */
        post: operations["createSupportToken"];
        /**
         * Leave a tenant
         * @description Ends every support token that the caller has made for this tenant, at once. Its security log says so. Where there is none left, nothing happens.
         */
        delete: operations["endSupport"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/domains/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List a tenant's domains
         * @description The primary first; those that wait have the TXT record that they wait for.
         */
        get: operations["listTenantDomains"];
        put?: never;
        /**
         * Add a domain to a tenant
         * @description It names the tenant once it is verified: make the TXT record of the answer, then verify.
         */
        post: operations["addTenantDomain"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/domains/{domain_id}/verify/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Verify a domain by its TXT record
         * @description The first verified one becomes the primary. 409 while the record is not there.
         */
        post: operations["verifyTenantDomain"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/platform/tenants/{id}/domains/{domain_id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Remove a domain from a tenant
         * @description It names nobody from now on; the next one becomes the primary.
         */
        delete: operations["removeTenantDomain"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/signup/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign up: begin
         * @description Sends a code of six digits by SMS, good for 10 minutes. The answer is the same whether or not the number has an account; one that has gets a message that says so, and no code. Counted by the limit *OTP send*.
         */
        post: operations["signUp"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/verify-otp/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign up: enter the code
         * @description The code proves that the number is the caller's; `verification_token` carries that proof to `finalize-signin/`. After three wrong codes from one network, that network can neither enter nor get a code for this number for 15 minutes. Counted by the limit *OTP verify*.
         */
        post: operations["verifyOtp"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/resent-otp/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign up: ask for another code
         * @description The older code stops working. The same answer for numbers that never signed up. Counted by the limit *OTP send*.
         */
        post: operations["resendOtp"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/finalize-signin/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign up: finish
         * @description Needs the proof that the number was verified, and logs the new user in. A link to verify the e-mail address goes out. An address somebody claimed but did not verify within 24 hours can be taken. Counted by the limit *finalize*.
         */
        post: operations["finalizeSignUp"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/login/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Log in
         * @description With a second factor on, the answer is not the tokens but `requires_2fa` and a `session_id` for the second step. An unknown identifier, a wrong password and a locked account are answered alike. Five wrong passwords from one network lock the account for that network for 30 minutes. Counted by the limit *login*.
         */
        post: operations["logIn"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/login-2fa-verify-code/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Finish a login with a code
         * @description A code of the authenticator app or the SMS. Each is accepted once. Five wrong ones in a row, backup codes and other logins included, and none is accepted for 30 minutes. Counted by the limit *OTP verify*.
         */
        post: operations["verifyLoginCode"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/login-2fa-resend/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Ask for another code by SMS during a login
         * @description The older code stops working; wrong codes stay counted. Counted by the limit *OTP send*.
         */
        post: operations["resendLoginCode"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/login-2fa-verify-backup/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Finish a login with a backup code
         * @description Each works once. Wrong ones count with wrong codes of the app and the SMS. Counted by the limit *OTP verify*.
         */
        post: operations["verifyLoginBackupCode"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/token/refresh/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Exchange a refresh token
         * @description The token rotates. A client that lost the answer may show the one before within 30 seconds and gets the current one; an older one ends the login. Counted by the limit *token refresh*.
         */
        post: operations["refreshTokens"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/logout/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Log out
         * @description Ends the login: the access token stops working within a second everywhere. Another user's refresh token is not touched.
         */
        post: operations["logOut"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/settings_enable-2fa/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Begin to turn the second factor on
         * @description Needs the password. With `totp`, show `qr_code` and let the user enter a code of the app; with `sms`, a code goes out to their number. It takes effect with `settings_confirm-2fa/`; until then it can be begun again. The backup codes are shown once. Counted by the limit *OTP verify*.
         */
        post: operations["enableSecondFactor"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/settings_confirm-2fa/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Turn the second factor on with its first code
         * @description From now on a login needs a code. Counted by the limit *OTP verify*.
         */
        post: operations["confirmSecondFactor"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/settings_send-2fa-code/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Ask for a code by SMS, to confirm a change with
         * @description For users whose codes come by SMS: to confirm the number again, or before `settings_disable-2fa/`. The older code stops working. Counted by the limit *OTP send*.
         */
        post: operations["sendSecondFactorCode"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/settings_disable-2fa/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Turn the second factor off
         * @description Needs the password and a code: of the app, of an SMS (`settings_send-2fa-code/`), or a backup code. Counted by the limit *OTP verify*.
         */
        post: operations["disableSecondFactor"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/settings_backup-codes/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make new backup codes
         * @description Needs the password. The older ones stop working; the new ones are shown once.
         */
        post: operations["reissueBackupCodes"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/password/forgot/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Ask for a link to set a new password
         * @description The answer is the same for unknown accounts. The link goes to the verified e-mail address; without one by SMS, unless codes by SMS are the second factor. It works once, for 30 minutes, and leads to FRONTEND_URL. Counted by the limit *finalize*.
         */
        post: operations["requestPasswordReset"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/password/reset/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Set a password with the token of a link
         * @description The token works once. Every login of the user ends, and a second factor is still asked for at the next one. Common passwords, the user's own data and the last five passwords are refused. Counted by the limit *finalize*.
         */
        post: operations["resetPassword"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/password/change/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Change the caller's password
         * @description The caller's other logins end. Wrong current passwords count with those of the login. Common passwords, the user's own data and the last five passwords are refused.
         */
        post: operations["changePassword"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/account/users/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the users of the tenant, or of a company
         * @description By name. The tenant's admins see everybody; with `company`, whoever holds `members.view` there sees its members. `search` finds parts of names, e-mail addresses and phone numbers. Needs `members.view` in the company.
         */
        get: operations["listUsers"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/account/users/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a user of the tenant
         * @description As the list of users shows them. For the tenant's admins.
         */
        get: operations["getUser"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Enable, disable or promote a user
         * @description Disabling ends every login of the user. The last active admin stays one. The user is told. For the tenant's admins.
         */
        patch: operations["changeUser"];
        trace?: never;
    };
    "/api/account/users/{id}/reset-2fa/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Take the second factor of a user who has lost it
         * @description Every login of the user ends, and they are told. For the tenant's admins.
         */
        post: operations["resetUserSecondFactor"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/account/profile/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get the caller's own account
         * @description Says what is verified and whether a second factor is on.
         */
        get: operations["getProfile"];
        /**
         * Replace what can be changed of the caller's account
         * @description Another e-mail address needs `current_password`; the present one stays until the link sent to the new one is followed. The answer does not tell whether the new one belongs to somebody else.
         */
        put: operations["replaceProfile"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Change the caller's account
         * @description Another e-mail address needs `current_password`; the present one stays until the link sent to the new one is followed. The answer does not tell whether the new one belongs to somebody else.
         */
        patch: operations["changeProfile"];
        trace?: never;
    };
    "/api/account/session-tests/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Test whether the access token works, and until when
         * @description For clients that want to know before they need it. Answers whose token it is.
         */
        get: operations["testSession"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/account/email/verify/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Verify an e-mail address with the token of a link
         * @description Works once, within 24 hours, on whatever device. A new address takes the place of the old one; an unverified claim of somebody else to it ends.
         */
        post: operations["verifyEmail"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/account/email/resend/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Ask for another link to verify the e-mail address
         * @description Goes to the new address where a change was begun. Five an hour at most.
         */
        post: operations["resendEmailVerification"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/account/sessions/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the caller's live logins
         * @description The last used first, 100 at most. `current` marks the one that asks.
         */
        get: operations["listSessions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/account/sessions/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * End one of the caller's logins
         * @description Its access token stops working within a second everywhere.
         */
        delete: operations["endSession"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/company/{id}/settings/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a company's settings
         * @description For its members.
         */
        get: operations["getCompanySettings"];
        /**
         * Replace a company's settings
         * @description The other members are notified. `feature_flags` is replaced as a whole where it is sent. Needs `company.settings` in the company.
         */
        put: operations["replaceCompanySettings"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Change a company's settings
         * @description The other members are notified. `feature_flags` is replaced as a whole where it is sent. Needs `company.settings` in the company.
         */
        patch: operations["changeCompanySettings"];
        trace?: never;
    };
    "/api/company/{id}/logo/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a company's logo
         * @description For its members. `If-None-Match` with the `ETag` of an earlier answer gives 304 while the logo is the same.
         */
        get: operations["getCompanyLogo"];
        /**
         * Replace a company's logo
         * @description The bytes of a PNG, JPEG or WebP image, at most 524,288. What they are is found out from the bytes, whatever `Content-Type` says. Needs `company.update` in the company.
         */
        put: operations["replaceCompanyLogo"];
        post?: never;
        /**
         * Delete a company's logo
         * @description The company has none then. Needs `company.update` in the company.
         */
        delete: operations["deleteCompanyLogo"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/company/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the companies that the caller belongs to
         * @description An admin of the tenant sees all of them. `search` finds parts of names; `parent` gives the companies directly below one.
         */
        get: operations["listCompanies"];
        put?: never;
        /**
         * Create a company
         * @description The caller becomes its Owner. A company can be put below another that the caller may change; rights do not pass from one to the other.
         */
        post: operations["createCompany"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/company/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a company
         * @description For its members and the tenant's admins; it does not exist for others.
         */
        get: operations["getCompany"];
        /**
         * Replace what can be changed of a company
         * @description `status` goes from `active` to `deactivated` and back, and from `deactivated` to `deleted`: that needs the Owner. The hierarchy has no cycles and at most 20 levels. Needs `company.update` in the company.
         */
        put: operations["replaceCompany"];
        post?: never;
        /**
         * Delete a company
         * @description Its Owner can, from either status, while there are no companies below it. Links to join it end; the name can be taken again.
         */
        delete: operations["deleteCompany"];
        options?: never;
        head?: never;
        /**
         * Change a company
         * @description `status` goes from `active` to `deactivated` and back, and from `deactivated` to `deleted`: that needs the Owner. The hierarchy has no cycles and at most 20 levels. Needs `company.update` in the company.
         */
        patch: operations["changeCompany"];
        trace?: never;
    };
    "/api/company/{id}/subsidiaries/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the companies below one, at any depth
         * @description Nearest first, as far as the caller belongs to them.
         */
        get: operations["listSubsidiaries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/permissions/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the catalogue of permissions
         * @description By code. `search` finds parts of codes and descriptions.
         */
        get: operations["listPermissions"];
        put?: never;
        /**
         * Add a permission
         * @description For applications that ask for it by code; this service asks for the built-in ones only. For the tenant's admins.
         */
        post: operations["createPermission"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/permissions/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a permission
         * @description One of the catalogue, built-in or added.
         */
        get: operations["getPermission"];
        /**
         * Replace what can be changed of a permission
         * @description Built-in permissions stay as they are: 409. For the tenant's admins.
         */
        put: operations["replacePermission"];
        post?: never;
        /**
         * Delete a permission
         * @description Roles neither allow nor deny it any more. Built-in permissions stay: 409. For the tenant's admins.
         */
        delete: operations["deletePermission"];
        options?: never;
        head?: never;
        /**
         * Change a permission
         * @description Built-in permissions stay as they are: 409. For the tenant's admins.
         */
        patch: operations["changePermission"];
        trace?: never;
    };
    "/api/access-control/roles/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List roles
         * @description System roles first, then by company and name. `company` leaves its own and the system's.
         */
        get: operations["listRoles"];
        put?: never;
        /**
         * Make a role of a company
         * @description It allows nothing yet: see role-permissions. Needs `roles.manage` in the company.
         */
        post: operations["createRole"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/roles/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a role
         * @description A system role, or one of a company that the caller sees.
         */
        get: operations["getRole"];
        /**
         * Replace what can be changed of a role
         * @description A system role stays as it is, and a role stays in its company: 409 otherwise. Needs `roles.manage` in the company.
         */
        put: operations["replaceRole"];
        post?: never;
        /**
         * Delete a role
         * @description Works for a role that no member has and nobody is invited to; 409 otherwise. Needs `roles.manage` in the company.
         */
        delete: operations["deleteRole"];
        options?: never;
        head?: never;
        /**
         * Change a role
         * @description A system role stays as it is, and a role stays in its company: 409 otherwise. Needs `roles.manage` in the company.
         */
        patch: operations["changeRole"];
        trace?: never;
    };
    "/api/access-control/role-permissions/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what roles allow and deny
         * @description Of the companies that the caller sees, by role and code.
         */
        get: operations["listRolePermissions"];
        put?: never;
        /**
         * Let a role allow or deny something
         * @description Nobody decides on a permission that they do not hold. A denial wins over what other roles of a member grant. Needs `roles.manage` in the company.
         */
        post: operations["createRolePermission"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/role-permissions/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get what a role says of a permission
         * @description For members of the company of the role.
         */
        get: operations["getRolePermission"];
        put?: never;
        post?: never;
        /**
         * Delete what a role says of a permission
         * @description Nobody decides on a permission that they do not hold. Needs `roles.manage` in the company.
         */
        delete: operations["deleteRolePermission"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/user-companies/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List memberships
         * @description The caller's own, and those of the companies where they hold `members.view`.
         */
        get: operations["listMemberships"];
        put?: never;
        /**
         * Make a user a member of a company
         * @description A user whom the caller sees: others are invited. The user is notified; the membership has no role yet. Needs `members.manage` in the company.
         */
        post: operations["createMembership"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/user-companies/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a membership
         * @description One's own, or with `members.view` in its company.
         */
        get: operations["getMembership"];
        /**
         * Replace what can be changed of a membership
         * @description Users choose their own primary company without the permission. Nobody changes a member who holds more; a company keeps an owner. Needs `members.manage` in the company.
         */
        put: operations["replaceMembership"];
        post?: never;
        /**
         * End a membership
         * @description Users leave by themselves without the permission. Its roles end, and pending invitations of the same address to the company. A company keeps an owner. Needs `members.manage` in the company.
         */
        delete: operations["deleteMembership"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/user-company-roles/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the roles of members
         * @description The caller's own, and those of the companies where they hold `members.view`.
         */
        get: operations["listMembershipRoles"];
        put?: never;
        /**
         * Give a member a role
         * @description Nobody gives more than they hold, nor changes who holds more. The member is notified. Needs `members.manage` in the company.
         */
        post: operations["createMembershipRole"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/user-company-roles/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get a role of a member
         * @description One's own, or with `members.view` in its company.
         */
        get: operations["getMembershipRole"];
        put?: never;
        post?: never;
        /**
         * Take a role from a member
         * @description The member is notified. The last Owner of a company stays one: 409. Needs `members.manage` in the company.
         */
        delete: operations["deleteMembershipRole"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/invitations/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List invitations
         * @description Those of the companies where the caller may invite, newest first. Needs `invitations.manage` in the company.
         */
        get: operations["listInvitations"];
        put?: never;
        /**
         * Invite somebody by e-mail
         * @description The link in the e-mail leads to the front end, with the token in its fragment; the token is in this answer, and nowhere later. Nobody invites to a role that allows more than they hold. Needs `invitations.manage` in the company.
         */
        post: operations["createInvitation"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/invitations/accept/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Accept an invitation
         * @description The caller needs the invited e-mail address, verified. Who has no account signs up with it, follows the link that verifies it, and then accepts.
         */
        post: operations["acceptInvitation"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/invitations/{id}/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get an invitation
         * @description The token is not in it: it was in the answer that made the invitation, and is in the e-mail. Needs `invitations.manage` in the company.
         */
        get: operations["getInvitation"];
        /**
         * Change a pending invitation
         * @description Gives it another role, and another end: seven days from now unless `expires_at` says otherwise. The link that was sent stays good. Needs `invitations.manage` in the company.
         */
        put: operations["replaceInvitation"];
        post?: never;
        /**
         * Delete an invitation
         * @description Its link stops working, and it answers 404 from then on. To keep it in the list, revoke it instead. Needs `invitations.manage` in the company.
         */
        delete: operations["deleteInvitation"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/invitations/{id}/revoke/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Revoke a pending invitation
         * @description Its link stops working; the invitation stays in the list, as `revoked`. Needs `invitations.manage` in the company.
         */
        post: operations["revokeInvitation"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/invitations/{id}/resend/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Send a pending invitation again
         * @description The e-mail has a new link, good for seven days; the older one stops working. Needs `invitations.manage` in the company.
         */
        post: operations["resendInvitation"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/access-control/my-permissions/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get what the caller may do in a company
         * @description The codes to show or hide a button by. Owners, Admins and the tenant's admins hold every code; of the others' roles a denial wins over any grant.
         */
        get: operations["getMyPermissions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit/activity-logs/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what was changed
         * @description In the companies where the caller holds `audit.view`; for the tenant's admins everywhere. Newest first. Needs `audit.view` in the company.
         */
        get: operations["listActivity"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit/activity-logs/my/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what the caller changed
         * @description In every company. Newest first.
         */
        get: operations["listOwnActivity"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit/security-logs/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what happened to an account
         * @description The caller's own; for the tenant's admins anybody's. Newest first.
         */
        get: operations["listSecurityEntries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit/notifications/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the caller's notifications
         * @description Newest first, with the number of those that are not read.
         */
        get: operations["listNotifications"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit/notifications/mark-read/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Mark notifications as read
         * @description One by its id, or all of the caller's.
         */
        post: operations["markNotificationsRead"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit/verify/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Check the logs against their seals
         * @description The newest 20000 entries of each log, or so; `before_activity` and `before_security` go on from `oldest_seal` of an earlier answer. Entries are sealed some seconds after they are written. For the tenant's admins.
         */
        get: operations["verifyLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        AcceptInvitation: {
            /** @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk */
            token: string;
        };
        AcceptedInvitation: {
            /** @example You belong to Acme Ltd now. */
            detail: string;
            /** @example 3 */
            company: number;
        };
        /** @description What somebody changed. */
        ActivityEntry: {
            /** @example 3 */
            id: number;
            /**
             * @description Null: nobody who is known.
             * @example 7
             */
            user: number | null;
            /** @example ada@corp.io */
            user_display: string;
            /**
             * @description The day, in UTC: YYYYMMDD.
             * @example 20261124
             */
            date: number;
            /** @example UPDATE */
            action: string;
            /** @example 203.0.113.7 */
            ip_address: string | null;
            /** Format: date-time */
            created_at: string;
            /** @description Null: the whole tenant's. */
            company: number | null;
            /** @example Company */
            entity_type: string;
            /** @example 3 */
            entity_id: number;
            /**
             * @description The fields that changed, as they were.
             * @example {
             *       "name": "Acme"
             *     }
             */
            old_values: {
                [key: string]: unknown;
            };
            /**
             * @description The fields that changed, as they are.
             * @example {
             *       "name": "Acme Ltd"
             *     }
             */
            new_values: {
                [key: string]: unknown;
            };
        };
        ActivityPage: {
            /**
             * @description Entries that were found; counting ends at 10,000, which means that many or more.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last. After a cursor, and past 10,000, by cursor.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first, and after a cursor.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["ActivityEntry"][];
            /**
             * @description Where the next page begins, at any depth; null on the last.
             * @example MTc5NTQ4NjQwMDAwMDAwMC40Mg
             */
            next_cursor: string | null;
        };
        BackupCodesAnswer: {
            /**
             * @description Ten codes for the day the phone is gone: each works once. Shown only here.
             * @example [
             *       "K7QX-2MZP-W4TB-6HVN-QD3E-5RLA"
             *     ]
             */
            backup_codes: string[];
        };
        BackupCodesRequest: {
            /**
             * @description The caller's password.
             * @example correct horse battery staple
             */
            password: string;
        };
        /** @description The password was right; a code is still to come. */
        ChallengeAnswer: {
            /** @constant */
            requires_2fa: true;
            /**
             * @description The login that waits for its second factor: for 10 minutes, and for nothing else.
             * @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk
             */
            session_id: string;
            /**
             * @description An authenticator app (RFC 6238), or codes by SMS.
             * @example totp
             * @enum {string}
             */
            method: "totp" | "sms";
        };
        ChallengeBackupRequest: {
            /**
             * @description The login that waits for its second factor: for 10 minutes, and for nothing else.
             * @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk
             */
            session_id: string;
            /** @example K7QX-2MZP-W4TB-6HVN-QD3E-5RLA */
            backup_code: string;
        };
        ChallengeCodeRequest: {
            /**
             * @description The login that waits for its second factor: for 10 minutes, and for nothing else.
             * @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk
             */
            session_id: string;
            /**
             * @description Six digits.
             * @example 482913
             */
            code: string;
        };
        ChallengeResendRequest: {
            /**
             * @description The login that waits for its second factor: for 10 minutes, and for nothing else.
             * @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk
             */
            session_id: string;
        };
        /** @description A page of the list. */
        CompaniesPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["CompanyListItem"][];
        };
        Company: {
            /** @example 3 */
            id: number;
            /** @example Acme Ltd */
            name: string;
            /**
             * @description Where the logo is; changes with it.
             * @example /api/company/3/logo/?v=9f86d081884c7d65
             */
            logo: string | null;
            /** @example Makes everything. */
            description: string;
            /** @example 1 Main Street, Cairo */
            address: string;
            /**
             * @description `active` and `deactivated` follow on each other; `deleted` follows on `deactivated`, by the Owner, and is the same as DELETE.
             * @enum {string}
             */
            status: "active" | "deactivated" | "deleted";
            /**
             * @description The user who made it.
             * @example 7
             */
            create_by: number;
            /**
             * @description The company above; null at the top.
             * @example null
             */
            parent_company: number | null;
            /**
             * @description Whether others are to be put below it.
             * @example true
             */
            is_parent_company: boolean;
            settings: components["schemas"]["CompanySettings"];
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
        };
        CompanyChange: {
            /**
             * @description No other company of the tenant has it.
             * @example Acme Ltd
             */
            name?: string;
            /** @example Makes everything. */
            description?: string;
            /** @example 1 Main Street, Cairo */
            address?: string;
            /**
             * @description The company above; the caller must be allowed to change it.
             * @example null
             */
            parent_company?: number | null;
            /** @description Whether others are to be put below it. */
            is_parent_company?: boolean;
            /**
             * @description `active` and `deactivated` follow on each other; `deleted` follows on `deactivated`, by the Owner, and is the same as DELETE.
             * @enum {string}
             */
            status?: "active" | "deactivated" | "deleted";
        };
        CompanyListItem: {
            /** @example 3 */
            id: number;
            /** @example Acme Ltd */
            name: string;
            /**
             * @description Where the logo is; changes with it.
             * @example /api/company/3/logo/?v=9f86d081884c7d65
             */
            logo: string | null;
            /**
             * @description `active` and `deactivated` follow on each other; `deleted` follows on `deactivated`, by the Owner, and is the same as DELETE.
             * @enum {string}
             */
            status: "active" | "deactivated" | "deleted";
            is_parent_company: boolean;
            /** Format: date-time */
            created_at: string;
        };
        CompanyLogo: {
            /**
             * @description Where it is.
             * @example /api/company/3/logo/?v=9f86d081884c7d65
             */
            logo: string;
            /** @enum {string} */
            content_type: "image/png" | "image/jpeg" | "image/webp";
            /**
             * @description Its length.
             * @example 20480
             */
            bytes: number;
        };
        CompanyReplacement: {
            /**
             * @description No other company of the tenant has it.
             * @example Acme Ltd
             */
            name: string;
            /** @example Makes everything. */
            description: string;
            /** @example 1 Main Street, Cairo */
            address: string;
            /**
             * @description The company above; the caller must be allowed to change it.
             * @example null
             */
            parent_company: number | null;
            /** @description Whether others are to be put below it. */
            is_parent_company: boolean;
            /**
             * @description `active` and `deactivated` follow on each other; `deleted` follows on `deactivated`, by the Owner, and is the same as DELETE.
             * @enum {string}
             */
            status: "active" | "deactivated" | "deleted";
        };
        CompanySettings: {
            /**
             * @description BCP 47.
             * @example en-GB
             */
            default_language: string;
            /**
             * @description ISO 4217.
             * @example EGP
             */
            default_currency: string;
            /**
             * @description IANA.
             * @example Africa/Cairo
             */
            timezone: string;
            /** @example 1 */
            fiscal_year_start_month: number;
            /**
             * @description Whatever an application switches.
             * @example {
             *       "beta": true
             *     }
             */
            feature_flags: {
                [key: string]: unknown;
            };
        };
        CompanySettingsChange: {
            /**
             * @description BCP 47; kept in its canonical form.
             * @example en-GB
             */
            default_language?: string;
            /** @example EGP */
            default_currency?: string;
            /** @example Africa/Cairo */
            timezone?: string;
            /** @example 1 */
            fiscal_year_start_month?: number;
            /**
             * @example {
             *       "beta": true
             *     }
             */
            feature_flags?: {
                [key: string]: unknown;
            };
        };
        CompanySettingsReplacement: {
            /**
             * @description BCP 47; kept in its canonical form.
             * @example en-GB
             */
            default_language: string;
            /** @example EGP */
            default_currency: string;
            /** @example Africa/Cairo */
            timezone: string;
            /** @example 1 */
            fiscal_year_start_month: number;
            /**
             * @example {
             *       "beta": true
             *     }
             */
            feature_flags: {
                [key: string]: unknown;
            };
        };
        ConfirmSecondFactorRequest: {
            /**
             * @description Six digits.
             * @example 482913
             */
            code: string;
        };
        CreatedInvitation: {
            /** @example 3 */
            id: number;
            /** @example ada@corp.io */
            email: string;
            /** @example 3 */
            company: number;
            /** @example 3 */
            role: number;
            /** @enum {string} */
            status: "pending" | "accepted" | "revoked" | "expired";
            /**
             * @description The user who invited.
             * @example 7
             */
            invited_by: number;
            /** Format: date-time */
            expires_at: string;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
            /**
             * @description What the link in the e-mail carries. Here once, nowhere later.
             * @example q1yM3cT8mZ0J0u4gk3V2cW7rY5bN6xK9dF1hG2jL3pA
             */
            token: string;
        };
        CreatedPlatformTenant: {
            /** @example 3 */
            id: number;
            /** @example Acme */
            name: string;
            /** @example acme */
            subdomain: string;
            /**
             * @description `read_only`: changes are refused; `suspended`: every request is.
             * @enum {string}
             */
            status: "active" | "read_only" | "suspended";
            /**
             * @description Verified ones, the primary first.
             * @example [
             *       "app.acme.example"
             *     ]
             */
            domains: string[];
            /**
             * @description In PostgreSQL.
             * @example t_3
             */
            schema: string;
            /**
             * @description The newest migration of its schema.
             * @example 1790000220000_create-activity-logs
             */
            version: string;
            /**
             * @example applied
             * @enum {string}
             */
            migration_state: "pending" | "running" | "applied" | "failed";
            /**
             * @description Why its last migration failed.
             * @example null
             */
            last_error: string | null;
            /** @description Whether its e-mails and SMS are sent. */
            sends_messages: boolean;
            /** @description For whoever bills: nothing ends by itself when it has passed. */
            paid_until: string | null;
            /** @example false */
            on_trial: boolean;
            /**
             * @description Its own limits instead of the installation's.
             * @example {
             *       "authenticated": "5000/day"
             *     }
             */
            rate_limits: {
                [key: string]: string;
            };
            /**
             * @description When it may be erased.
             * @example null
             */
            delete_after: string | null;
            /** Format: date-time */
            created_at: string;
            /**
             * @description With which the owner sets a password, within 72 hours; answered once.
             * @example https://app.example.com/reset-password?tenant=acme#token=wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk
             */
            password_link: string | null;
        };
        DetailAnswer: {
            /** @example The invitation is revoked. */
            detail: string;
        };
        DisableSecondFactorRequest: {
            /**
             * @description The caller's password.
             * @example correct horse battery staple
             */
            password: string;
            /**
             * @description A code of the app or an SMS, or a backup code.
             * @example 482913
             */
            code: string;
        };
        EnableSecondFactorAnswer: {
            /**
             * @description An authenticator app (RFC 6238), or codes by SMS.
             * @example totp
             * @enum {string}
             */
            method: "totp" | "sms";
            /**
             * @description For typing into an app, in base32; null with SMS.
             * @example JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP
             */
            secret: string | null;
            /**
             * @description The `otpauth://` URI to show as a QR code; null with SMS.
             * @example otpauth://totp/acme:ada%40corp.io?issuer=acme&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP
             */
            qr_code: string | null;
            /**
             * @description Ten codes for the day the phone is gone: each works once. Shown only here.
             * @example [
             *       "K7QX-2MZP-W4TB-6HVN-QD3E-5RLA"
             *     ]
             */
            backup_codes: string[];
            /** @constant */
            confirmed: false;
        };
        EnableSecondFactorRequest: {
            /**
             * @description An authenticator app (RFC 6238), or codes by SMS.
             * @example totp
             * @enum {string}
             */
            method: "totp" | "sms";
            /**
             * @description The caller's password.
             * @example correct horse battery staple
             */
            password: string;
        };
        FinalizeAnswer: {
            /**
             * @description A sentence for people; it may change.
             * @example Your account is ready.
             */
            message: string;
            tokens: components["schemas"]["Tokens"];
            user: components["schemas"]["User"];
        };
        FinalizeRequest: {
            /**
             * @description A phone number in international format.
             * @example +201001234567
             */
            primary_mobile: string;
            /** @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk */
            verification_token: string;
            /** @example ada@corp.io */
            email: string;
            /**
             * @description 8 to 128 characters of any script.
             * @example correct horse battery staple
             */
            password: string;
        };
        /** @description An offer to join a company, sent by e-mail. */
        Invitation: {
            /** @example 3 */
            id: number;
            /** @example ada@corp.io */
            email: string;
            /** @example 3 */
            company: number;
            /** @example 3 */
            role: number;
            /** @enum {string} */
            status: "pending" | "accepted" | "revoked" | "expired";
            /**
             * @description The user who invited.
             * @example 7
             */
            invited_by: number;
            /** Format: date-time */
            expires_at: string;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
        };
        InvitationReplacement: {
            /**
             * @description Stays.
             * @example ada@corp.io
             */
            email: string;
            /**
             * @description Stays.
             * @example 3
             */
            company: number;
            /**
             * @description A system role or one of the company; nothing beyond what the inviter holds.
             * @example 3
             */
            role: number;
            /**
             * Format: date-time
             * @description In the future, at most 90 days ahead; seven days unless said.
             * @example 2027-01-31T12:00:00Z
             */
            expires_at?: string;
        };
        /** @description A page of the list. */
        InvitationsPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["Invitation"][];
        };
        /** @description The login is done. */
        LoggedInAnswer: {
            tokens: components["schemas"]["Tokens"];
            user: components["schemas"]["User"];
        };
        LoginAnswer: components["schemas"]["LoggedInAnswer"] | components["schemas"]["ChallengeAnswer"];
        LoginRequest: {
            /**
             * @description E-mail address, phone number or username.
             * @example ada@corp.io
             */
            identifier: string;
            /** @example correct horse battery staple */
            password: string;
            /** @description A refresh token of 30 days, not 7. */
            remember_me?: boolean;
            /** @description Cloudflare Turnstile's answer. */
            cf_turnstile_response?: string;
        };
        /** @description A user as the tenant's admins see one. */
        ManagedUser: {
            /** @example 7 */
            id: number;
            /** @example user-afe80079fb38b */
            username: string;
            /** @example Ada Lovelace */
            full_name: string;
            email: string | null;
            /**
             * @description In E.164.
             * @example +201001234567
             */
            primary_mobile: string;
            /** @description False: no login is let in. */
            is_active: boolean;
            /** @example false */
            is_tenant_admin: boolean;
            is_2fa_enabled: boolean;
            /** Format: date-time */
            date_joined: string;
            last_login: string | null;
        };
        /**
         * @example {
         *       "notification_id": 3
         *     }
         */
        MarkRead: {
            /** @example 3 */
            notification_id?: number;
            /**
             * @description Instead of one: every one of the caller.
             * @constant
             */
            all?: true;
        };
        /** @description A user's belonging to a company. */
        Membership: {
            /** @example 3 */
            id: number;
            /** @example 7 */
            user: number;
            /** @example 3 */
            company: number;
            /** @description A user has one primary company. */
            is_primary_company: boolean;
            /** @description False: the user does not see the company. */
            is_active: boolean;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
        };
        MembershipReplacement: {
            /**
             * @description Stays.
             * @example 7
             */
            user: number;
            /**
             * @description Stays.
             * @example 3
             */
            company: number;
            is_primary_company: boolean;
            is_active: boolean;
        };
        /** @description A role that a member has. */
        MembershipRole: {
            /** @example 3 */
            id: number;
            user_company: {
                /** @example 3 */
                id: number;
                /** @example 7 */
                user: number;
                /** @example 3 */
                company: number;
                is_active: boolean;
            };
            role: {
                /** @example 3 */
                id: number;
                /** @example Accountant */
                role: string;
                /** @example Sees what was booked. */
                desc: string;
                company: number | null;
            };
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
        };
        /** @description A page of the list. */
        MembershipRolesPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["MembershipRole"][];
        };
        /** @description A page of the list. */
        MembershipsPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["Membership"][];
        };
        MessageAnswer: {
            /**
             * @description A sentence for people; it may change.
             * @example Done.
             */
            message: string;
        };
        MigrationLedgerEntry: {
            /**
             * @description The tenant's.
             * @example 3
             */
            id: number;
            /** @example acme */
            subdomain: string;
            /** @example 1790000220000_create-activity-logs */
            version: string;
            /**
             * @example applied
             * @enum {string}
             */
            state: "pending" | "running" | "applied" | "failed";
            /** @example 1 */
            attempts: number;
            /** @example null */
            last_error: string | null;
            /** @example 41 */
            duration_ms: number;
            /** Format: date-time */
            updated_at: string;
        };
        MigrationsPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["MigrationLedgerEntry"][];
            /**
             * @description The newest migration of this release.
             * @example 1790000220000_create-activity-logs
             */
            release: string;
            /**
             * @description Tenants that are not of it.
             * @example 0
             */
            behind: number;
        };
        /** @description What the caller may do in a company. */
        MyPermissions: {
            /** @example 3 */
            company: number;
            /**
             * @example [
             *       "members.view"
             *     ]
             */
            permissions: string[];
        };
        NewCompany: {
            /**
             * @description No other company of the tenant has it.
             * @example Acme Ltd
             */
            name: string;
            /**
             * @default
             * @example Makes everything.
             */
            description?: string;
            /**
             * @default
             * @example 1 Main Street, Cairo
             */
            address?: string;
            /**
             * @description The company above; the caller must be allowed to change it.
             * @example null
             */
            parent_company?: number | null;
            /**
             * @description Whether others are to be put below it.
             * @default false
             */
            is_parent_company?: boolean;
        };
        NewInvitation: {
            /** @example ada@corp.io */
            email: string;
            /** @example 3 */
            company: number;
            /**
             * @description A system role or one of the company; nothing beyond what the inviter holds.
             * @example 3
             */
            role: number;
            /**
             * Format: date-time
             * @description In the future, at most 90 days ahead; seven days unless said.
             * @example 2027-01-31T12:00:00Z
             */
            expires_at?: string;
        };
        NewMembership: {
            /** @example 7 */
            user: number;
            /** @example 3 */
            company: number;
            /** @default false */
            is_primary_company?: boolean;
            /** @default true */
            is_active?: boolean;
        };
        NewMembershipRole: {
            /** @example 3 */
            user_company: number;
            /** @example 3 */
            role: number;
        };
        NewPermission: {
            /**
             * @description What applications ask for.
             * @example reports.export
             */
            code: string;
            /**
             * @description What it belongs to.
             * @example reports
             */
            module: string;
            /**
             * @default
             * @example Export reports as CSV.
             */
            description?: string;
        };
        NewPlatformDomain: {
            /** @example app.acme.example */
            domain: string;
        };
        NewPlatformTenant: {
            /**
             * @description What people call the tenant.
             * @example Acme
             */
            name: string;
            /**
             * @description 3 to 63 letters, digits and dashes; some are reserved.
             * @example acme
             */
            subdomain: string;
            owner: {
                /**
                 * @default Owner
                 * @example Ada Lovelace
                 */
                full_name?: string;
                /** @example ada@corp.io */
                email: string;
                /**
                 * @description A phone number in international format.
                 * @example +201001234567
                 */
                phone: string;
                /**
                 * @description Without one a link to set it is answered.
                 * @example correct horse battery staple
                 */
                password?: string;
            };
        };
        NewRole: {
            /**
             * @description No other role of the company has it, nor a system role.
             * @example Accountant
             */
            role: string;
            /**
             * @default
             * @example Sees what was booked.
             */
            desc?: string;
            /**
             * @description Whose role it is; stays.
             * @example 3
             */
            company: number;
        };
        NewRolePermission: {
            /** @example 3 */
            role: number;
            /** @example 3 */
            permission: number;
            /**
             * @description False denies, whatever other roles grant.
             * @default true
             */
            granted?: boolean;
        };
        NewSupportToken: {
            /**
             * @description Written to the tenant's security log.
             * @example Ticket 4711: the invitation does not arrive
             */
            reason: string;
            /**
             * @description Whether it may change anything.
             * @default false
             */
            write?: boolean;
        };
        /** @description What concerns the caller. */
        Notification: {
            /** @example 3 */
            id: number;
            /** @example You are Accountant of Acme Ltd now. */
            message: string;
            /** @example false */
            read: boolean;
            /** Format: date-time */
            created_at: string;
        };
        NotificationsPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["Notification"][];
            /** @example 1 */
            unread_count: number;
        };
        /** @description The password was right; a code is still to come. */
        OperatorChallengeAnswer: {
            /** @constant */
            requires_2fa: true;
            /**
             * @description For the second step, within 10 minutes.
             * @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk
             */
            session_id: string;
        };
        OperatorEnrolmentAnswer: {
            /**
             * @description In base32; shown once.
             * @example JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP
             */
            secret: string;
            /**
             * @description The `otpauth://` URI that apps read from a QR code.
             * @example otpauth://totp/Ouvira:ops%40corp.io?issuer=Ouvira&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP
             */
            qr_code: string;
        };
        OperatorLoginAnswer: components["schemas"]["OperatorTokens"] | components["schemas"]["OperatorChallengeAnswer"];
        OperatorLoginRequest: {
            /** @example ada@corp.io */
            email: string;
            /**
             * @description The caller's password.
             * @example correct horse battery staple
             */
            password: string;
        };
        OperatorPasswordRequest: {
            /**
             * @description The caller's password.
             * @example correct horse battery staple
             */
            password: string;
        };
        /** @description The login is done. */
        OperatorTokens: {
            tokens: components["schemas"]["Tokens"];
        };
        PasswordChangeRequest: {
            /**
             * @description The caller's password.
             * @example correct horse battery staple
             */
            current_password: string;
            /**
             * @description 8 to 128 characters of any script.
             * @example no horse needs this staple
             */
            new_password: string;
        };
        PasswordForgotRequest: {
            /**
             * @description E-mail address, phone number or username.
             * @example ada@corp.io
             */
            identifier: string;
        };
        PasswordResetRequest: {
            /** @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk */
            token: string;
            /**
             * @description 8 to 128 characters of any script.
             * @example no horse needs this staple
             */
            password: string;
        };
        /** @description What can be allowed or denied. */
        Permission: {
            /** @example 3 */
            id: number;
            /** @example reports.export */
            code: string;
            /** @example reports */
            module: string;
            /** @example Export reports as CSV. */
            description: string;
            /**
             * @description Asked for by this service; cannot be changed.
             * @example false
             */
            is_built_in: boolean;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
        };
        PermissionChange: {
            /**
             * @description What applications ask for.
             * @example reports.export
             */
            code?: string;
            /**
             * @description What it belongs to.
             * @example reports
             */
            module?: string;
            /** @example Export reports as CSV. */
            description?: string;
        };
        PermissionReplacement: {
            /**
             * @description What applications ask for.
             * @example reports.export
             */
            code: string;
            /**
             * @description What it belongs to.
             * @example reports
             */
            module: string;
            /** @example Export reports as CSV. */
            description: string;
        };
        /** @description A page of the list. */
        PermissionsPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["Permission"][];
        };
        PlatformDomain: {
            /** @example 3 */
            id: number;
            /** @example app.acme.example */
            domain: string;
            /**
             * @description One of the verified is the primary.
             * @example false
             */
            is_primary: boolean;
            /** @example null */
            verified_at: string | null;
            /** @description The TXT record to make; null once it is verified. */
            record: {
                /** @example _ouvira.app.acme.example */
                name: string;
                /** @example ouvira-verification=6Yw1Jk0m4nPq */
                value: string;
            } | null;
        };
        PlatformDomains: components["schemas"]["PlatformDomain"][];
        PlatformTenant: {
            /** @example 3 */
            id: number;
            /** @example Acme */
            name: string;
            /** @example acme */
            subdomain: string;
            /**
             * @description `read_only`: changes are refused; `suspended`: every request is.
             * @enum {string}
             */
            status: "active" | "read_only" | "suspended";
            /**
             * @description Verified ones, the primary first.
             * @example [
             *       "app.acme.example"
             *     ]
             */
            domains: string[];
            /**
             * @description In PostgreSQL.
             * @example t_3
             */
            schema: string;
            /**
             * @description The newest migration of its schema.
             * @example 1790000220000_create-activity-logs
             */
            version: string;
            /**
             * @example applied
             * @enum {string}
             */
            migration_state: "pending" | "running" | "applied" | "failed";
            /**
             * @description Why its last migration failed.
             * @example null
             */
            last_error: string | null;
            /** @description Whether its e-mails and SMS are sent. */
            sends_messages: boolean;
            /** @description For whoever bills: nothing ends by itself when it has passed. */
            paid_until: string | null;
            /** @example false */
            on_trial: boolean;
            /**
             * @description Its own limits instead of the installation's.
             * @example {
             *       "authenticated": "5000/day"
             *     }
             */
            rate_limits: {
                [key: string]: string;
            };
            /**
             * @description When it may be erased.
             * @example null
             */
            delete_after: string | null;
            /** Format: date-time */
            created_at: string;
        };
        PlatformTenantChange: {
            /**
             * @description What people call the tenant.
             * @example Acme
             */
            name?: string;
            /**
             * @description 3 to 63 letters, digits and dashes; some are reserved.
             * @example acme
             */
            subdomain?: string;
            sends_messages?: boolean;
            paid_until?: string | null;
            on_trial?: boolean;
            /**
             * @description Those that are sent; null gives one back to the installation.
             * @example {
             *       "authenticated": "5000/day"
             *     }
             */
            rate_limits?: {
                [key: string]: string | null;
            };
        };
        PlatformTenantUsage: {
            /** @example 41 */
            users: number;
            /**
             * @description Logged in within 30 days, or using a login.
             * @example 12
             */
            active_users: number;
            /** @example 3 */
            companies: number;
            /** @example 2 */
            pending_invitations: number;
            /**
             * @description From the ids, which have gaps: about as many.
             * @example 5310
             */
            activity_entries: number;
            /**
             * @description From the ids, which have gaps: about as many.
             * @example 5310
             */
            security_entries: number;
            /**
             * @description Of its tables, with their indexes.
             * @example 1441792
             */
            bytes: number;
            /** @description Of any of its users. */
            last_login: string | null;
        };
        /** @description A page of the list. */
        PlatformTenantsPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["PlatformTenant"][];
        };
        /** @description A failure, as RFC 9457 describes it. */
        Problem: {
            /** @example https://ouvira.dev/errors/validation_error */
            type: string;
            /** @example Bad Request */
            title: string;
            /** @example 400 */
            status: number;
            /** @enum {string} */
            code: "bad_host" | "tenant_required" | "bad_request" | "validation_error" | "invalid_otp" | "otp_expired" | "invalid_2fa_code" | "invalid_token" | "captcha_failed" | "authentication_required" | "invalid_credentials" | "token_expired" | "token_revoked" | "token_tenant_mismatch" | "refresh_reused" | "permission_denied" | "tenant_suspended" | "tenant_read_only" | "account_disabled" | "origin_refused" | "not_found" | "tenant_not_found" | "method_not_allowed" | "request_timeout" | "conflict" | "payload_too_large" | "uri_too_long" | "unsupported_media_type" | "rate_limited" | "headers_too_large" | "internal_error" | "overloaded" | "not_ready";
            /** @example The request body is invalid. */
            detail: string;
            /** @description Only for `validation_error`: dotted path of a field → what is wrong. */
            errors?: {
                [key: string]: string[];
            };
            /** @example req-6f1c */
            request_id: string;
        };
        /** @description The caller's own account. */
        Profile: {
            /** @example 7 */
            id: number;
            /** @example user-afe80079fb38b */
            username: string;
            /** @example Ada Lovelace */
            full_name: string;
            email: string | null;
            /**
             * @description In E.164.
             * @example +201001234567
             */
            primary_mobile: string;
            email_verified: boolean;
            phone_verified: boolean;
            /** Format: uuid */
            account_uid: string;
            is_2fa_enabled: boolean;
            /** @description How codes reach the user; null without a second factor. */
            two_fa_type: ("totp" | "sms") | null;
            /** Format: date-time */
            date_joined: string;
            last_login: string | null;
        };
        ProfileChange: {
            /** @example Ada Lovelace */
            full_name?: string;
            /**
             * @description Another address counts once the link sent there is followed.
             * @example ada@corp.io
             */
            email?: string;
            /**
             * @description Needed for another e-mail address.
             * @example correct horse battery staple
             */
            current_password?: string;
        };
        ProfileReplacement: {
            /** @example Ada Lovelace */
            full_name: string;
            /**
             * @description Another address counts once the link sent there is followed.
             * @example ada@corp.io
             */
            email: string;
            /**
             * @description Needed for another e-mail address.
             * @example correct horse battery staple
             */
            current_password?: string;
        };
        RefreshRequest: {
            /** @example 12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg */
            refresh: string;
        };
        ResendOtpRequest: {
            /**
             * @description A phone number in international format.
             * @example +201001234567
             */
            primary_mobile: string;
        };
        /** @description A set of permissions, of one company or of every one. */
        Role: {
            /** @example 3 */
            id: number;
            /** @example Accountant */
            role: string;
            /** @example Sees what was booked. */
            desc: string;
            /** @description Null: a system role, for every company. */
            company: number | null;
            /**
             * @description Cannot be changed.
             * @example false
             */
            is_system_role: boolean;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
        };
        RoleChange: {
            /**
             * @description No other role of the company has it, nor a system role.
             * @example Accountant
             */
            role?: string;
            /** @example Sees what was booked. */
            desc?: string;
            /**
             * @description Whose role it is; stays.
             * @example 3
             */
            company?: number;
        };
        /** @description What a role allows, or denies. */
        RolePermission: {
            /** @example 3 */
            id: number;
            /** @example 3 */
            role: number;
            /** @example 3 */
            permission: number;
            /** @example members.view */
            permission_code: string;
            /** @description False denies, whatever other roles grant. */
            granted: boolean;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            updated_at: string;
            /** @example null */
            deleted_at: string | null;
            /** @example false */
            is_deleted: boolean;
        };
        /** @description A page of the list. */
        RolePermissionsPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["RolePermission"][];
        };
        RoleReplacement: {
            /**
             * @description No other role of the company has it, nor a system role.
             * @example Accountant
             */
            role: string;
            /** @example Sees what was booked. */
            desc: string;
            /**
             * @description Whose role it is; stays.
             * @example 3
             */
            company: number;
        };
        /** @description A page of the list. */
        RolesPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["Role"][];
        };
        /** @description What happened to an account. */
        SecurityEntry: {
            /** @example 3 */
            id: number;
            /**
             * @description Null: nobody who is known.
             * @example 7
             */
            user: number | null;
            /** @example ada@corp.io */
            user_display: string;
            /**
             * @description The day, in UTC: YYYYMMDD.
             * @example 20261124
             */
            date: number;
            /** @example LOGIN_SUCCEEDED */
            action: string;
            /** @example 203.0.113.7 */
            ip_address: string | null;
            /** Format: date-time */
            created_at: string;
            /**
             * @example {
             *       "session": 12,
             *       "second_factor": "none"
             *     }
             */
            metadata: {
                [key: string]: unknown;
            };
        };
        SecurityPage: {
            /**
             * @description Entries that were found; counting ends at 10,000, which means that many or more.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last. After a cursor, and past 10,000, by cursor.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first, and after a cursor.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["SecurityEntry"][];
            /**
             * @description Where the next page begins, at any depth; null on the last.
             * @example MTc5NTQ4NjQwMDAwMDAwMC40Mg
             */
            next_cursor: string | null;
        };
        /** @description A live login. */
        Session: {
            /** @example 12 */
            id: number;
            /**
             * @description What the client called itself.
             * @example Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0
             */
            device: string | null;
            /** @example 203.0.113.7 */
            ip: string | null;
            /** Format: date-time */
            created_at: string;
            /**
             * Format: date-time
             * @description Login or last refresh.
             */
            last_used_at: string;
            /** Format: date-time */
            expires_at: string;
            /** @description The one that asks. */
            current: boolean;
        };
        /** @description That the access token works, and until when. */
        SessionTest: {
            user: {
                /** @example 7 */
                id: number;
                /** @example user-afe80079fb38b */
                username: string;
                /** @example Ada Lovelace */
                full_name: string;
                email: string | null;
                /**
                 * @description In E.164.
                 * @example +201001234567
                 */
                primary_mobile: string;
                /** Format: uuid */
                account_uid: string;
            };
            /**
             * Format: date-time
             * @description When the access token expires.
             */
            token_expires_at: string;
        };
        SignupAnswer: {
            /**
             * @description A sentence for people; it may change.
             * @example We have sent a code by SMS.
             */
            message: string;
            /**
             * @description In E.164.
             * @example +201001234567
             */
            primary_mobile: string;
        };
        SignupRequest: {
            /** @example Ada Lovelace */
            full_name: string;
            /**
             * @description A phone number in international format.
             * @example +201001234567
             */
            primary_mobile: string;
            /** @description Cloudflare Turnstile's answer. */
            cf_turnstile_response?: string;
        };
        /** @description A page of the list. */
        SubsidiariesPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["Subsidiary"][];
        };
        Subsidiary: {
            /** @example 3 */
            id: number;
            /** @example Acme Ltd */
            name: string;
            /**
             * @description Where the logo is; changes with it.
             * @example /api/company/3/logo/?v=9f86d081884c7d65
             */
            logo: string | null;
            /**
             * @description `active` and `deactivated` follow on each other; `deleted` follows on `deactivated`, by the Owner, and is the same as DELETE.
             * @enum {string}
             */
            status: "active" | "deactivated" | "deleted";
            is_parent_company: boolean;
            /** Format: date-time */
            created_at: string;
            /** @example 2 */
            parent_company: number;
        };
        SupportToken: {
            /**
             * @description Sent as Bearer token, with the tenant's X-Tenant.
             * @example eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl
             */
            access: string;
            /**
             * @description Seconds.
             * @example 900
             */
            expires_in: number;
        };
        Tokens: {
            /**
             * @description Send it as `Authorization: Bearer <access>`.
             * @example eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl
             */
            access: string;
            /**
             * @description Exchange it at `token/refresh/`; changes each time.
             * @example 12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg
             */
            refresh: string;
            /**
             * @description Seconds until `access` expires.
             * @example 3600
             */
            expires_in: number;
        };
        User: {
            /** @example 7 */
            id: number;
            /** Format: uuid */
            account_uid: string;
            /** @example user-afe80079fb38b */
            username: string;
            /** @example Ada Lovelace */
            full_name: string;
            email: string | null;
            /**
             * @description In E.164.
             * @example +201001234567
             */
            primary_mobile: string;
        };
        UserChange: {
            /**
             * @description False ends every login of the user.
             * @example false
             */
            is_active?: boolean;
            /** @description Whether the user administers the tenant. */
            is_tenant_admin?: boolean;
        };
        /** @description A page of the list. */
        UsersPage: {
            /**
             * @description Rows on all pages.
             * @example 1
             */
            count: number;
            /**
             * @description The next page; null on the last.
             * @example null
             */
            next: string | null;
            /**
             * @description The page before; null on the first.
             * @example null
             */
            previous: string | null;
            results: components["schemas"]["ManagedUser"][];
        };
        /** @description Whether the logs are what was written to them. */
        Verification: {
            /** @enum {string} */
            status: "intact" | "broken";
            logs: {
                /** @enum {string} */
                log: "activity" | "security";
                /**
                 * @description Seals there should be.
                 * @example 120
                 */
                seals: number;
                /** @example 5310 */
                checked_entries: number;
                /**
                 * @description Written a moment ago.
                 * @example 0
                 */
                unsealed_entries: number;
                /** @example 0 */
                pending_checkpoints: number;
                /**
                 * @description The oldest seal that was checked.
                 * @example 1
                 */
                oldest_seal: number | null;
                /** @description All was checked that is not pruned. */
                is_complete: boolean;
                /**
                 * @description At most 100.
                 * @example []
                 */
                findings: {
                    /** @enum {string} */
                    log: "activity" | "security";
                    /** @enum {string} */
                    kind: "edited" | "deleted" | "inserted" | "reordered" | "cut_off" | "rehashed" | "seal_changed" | "seal_missing" | "checkpoint_changed" | "checkpoint_missing";
                    /** @example 12 */
                    seal: number;
                    /**
                     * @description The entry; null when it is the seal itself, or cannot be said.
                     * @example 4711
                     */
                    entry_id: number | null;
                    /** @example Entry 4711 is not what was sealed. */
                    detail: string;
                }[];
            }[];
        };
        VerifyEmailRequest: {
            /** @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk */
            token: string;
        };
        VerifyOtpAnswer: {
            /**
             * @description A sentence for people; it may change.
             * @example The number is verified. Finish the sign-up within 15 minutes.
             */
            message: string;
            /**
             * @description In E.164.
             * @example +201001234567
             */
            primary_mobile: string;
            /**
             * @description Shows that the number is the caller's: for 15 minutes, once.
             * @example wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk
             */
            verification_token: string;
        };
        VerifyOtpRequest: {
            /**
             * @description A phone number in international format.
             * @example +201001234567
             */
            primary_mobile: string;
            /** @example 482913 */
            otp: string;
        };
    };
    responses: {
        /** @description `bad_host` */
        "400.bad_host": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `invalid_2fa_code`, `validation_error` */
        "400.invalid_2fa_code.validation_error.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `invalid_token`, `invalid_2fa_code`, `validation_error` */
        "400.invalid_token.invalid_2fa_code.validation_error.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `tenant_required` */
        "400.tenant_required.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `validation_error`, `captcha_failed`, `tenant_required` */
        "400.validation_error.captcha_failed.tenant_required.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `validation_error`, `invalid_2fa_code`, `tenant_required` */
        "400.validation_error.invalid_2fa_code.tenant_required.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `validation_error`, `invalid_otp`, `otp_expired`, `tenant_required` */
        "400.validation_error.invalid_otp.otp_expired.tenant_required.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `validation_error`, `invalid_token`, `invalid_2fa_code`, `tenant_required` */
        "400.validation_error.invalid_token.invalid_2fa_code.tenant_required.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `validation_error`, `invalid_token`, `tenant_required` */
        "400.validation_error.invalid_token.tenant_required.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `validation_error` */
        "400.validation_error.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `validation_error`, `tenant_required` */
        "400.validation_error.tenant_required.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `authentication_required` */
        "401.authentication_required": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `authentication_required`, `token_expired`, `token_revoked` */
        "401.authentication_required.token_expired.token_revoked.limited": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `authentication_required`, `token_expired`, `token_revoked`, `token_tenant_mismatch` */
        "401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `invalid_credentials`, `authentication_required`, `token_expired`, `token_revoked` */
        "401.invalid_credentials.authentication_required.token_expired.token_revoked.limited": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `invalid_credentials`, `authentication_required`, `token_expired`, `token_revoked`, `token_tenant_mismatch` */
        "401.invalid_credentials.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `invalid_credentials` */
        "401.invalid_credentials.limited": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `token_revoked`, `token_expired`, `refresh_reused` */
        "401.token_revoked.token_expired.refresh_reused.limited": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `account_disabled`, `tenant_suspended`, `tenant_read_only` */
        "403.account_disabled.tenant_suspended.tenant_read_only.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `permission_denied` */
        "403.permission_denied.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `permission_denied`, `tenant_suspended`, `account_disabled` */
        "403.permission_denied.tenant_suspended.account_disabled.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `permission_denied`, `tenant_suspended`, `tenant_read_only`, `account_disabled` */
        "403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `tenant_suspended`, `tenant_read_only` */
        "403.tenant_suspended.tenant_read_only.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `not_found` */
        "404.not_found.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `not_found`, `tenant_not_found` */
        "404.not_found.tenant_not_found.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `tenant_not_found` */
        "404.tenant_not_found.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `conflict` */
        "409.conflict.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `payload_too_large` */
        "413.payload_too_large.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `uri_too_long` */
        "414.uri_too_long.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `unsupported_media_type` */
        "415.unsupported_media_type.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `rate_limited` */
        "429.rate_limited.limited": {
            headers: {
                "Retry-After": components["headers"]["Retry-After"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `headers_too_large` */
        "431.headers_too_large": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `internal_error` */
        "500.internal_error.limited": {
            headers: {
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `not_ready` */
        "503.not_ready": {
            headers: {
                "Retry-After": components["headers"]["Retry-After"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `not_ready`, `overloaded` */
        "503.not_ready.overloaded.limited": {
            headers: {
                "Retry-After": components["headers"]["Retry-After"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
        /** @description `overloaded`, `not_ready` */
        "503.overloaded.not_ready.limited": {
            headers: {
                "Retry-After": components["headers"]["Retry-After"];
                "RateLimit-Limit": components["headers"]["RateLimit-Limit"];
                "RateLimit-Remaining": components["headers"]["RateLimit-Remaining"];
                "RateLimit-Reset": components["headers"]["RateLimit-Reset"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"];
            };
        };
    };
    parameters: {
        /**
         * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
         * @example demo
         */
        Tenant: string;
    };
    requestBodies: never;
    headers: {
        /** @description Seconds after which to try again. */
        "Retry-After": number;
        /** @description Requests that the limit allows in its window. */
        "RateLimit-Limit": number;
        /** @description Requests left in the window. */
        "RateLimit-Remaining": number;
        /** @description Seconds until the window ends. */
        "RateLimit-Reset": number;
        /** @description Names what was answered (RFC 9110 §8.8.3). */
        ETag: string;
        /** @description How to authenticate (RFC 6750). */
        "WWW-Authenticate": string;
    };
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    getRoot: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "ok"
                     *     }
                     */
                    "application/json": {
                        /** @enum {string} */
                        status: "ok";
                    };
                };
            };
            400: components["responses"]["400.bad_host"];
            431: components["responses"]["431.headers_too_large"];
        };
    };
    getHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "ok"
                     *     }
                     */
                    "application/json": {
                        /** @enum {string} */
                        status: "ok";
                    };
                };
            };
            431: components["responses"]["431.headers_too_large"];
        };
    };
    getReadiness: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "fleet": "current",
                     *       "status": "ok"
                     *     }
                     */
                    "application/json": {
                        /**
                         * @description `behind` while some tenant's schema is not of this release: it is answered as before, or with 503 `not_ready` where the code needs the newer one.
                         * @enum {string}
                         */
                        fleet: "current" | "behind";
                        /**
                         * @description `degraded` while Redis cannot be reached: every process then counts limits by itself.
                         * @enum {string}
                         */
                        status: "ok" | "degraded";
                    };
                };
            };
            431: components["responses"]["431.headers_too_large"];
            503: components["responses"]["503.not_ready"];
        };
    };
    getMetrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example # TYPE ouvira_shed_requests_total counter
                     *     ouvira_shed_requests_total 0
                     */
                    "text/plain": string;
                };
            };
            401: components["responses"]["401.authentication_required"];
        };
    };
    logInOperator: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "email": "ada@corp.io",
                 *       "password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["OperatorLoginRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OperatorLoginAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.invalid_credentials.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    verifyOperatorLoginCode: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "session_id": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk",
                 *       "code": "482913"
                 *     }
                 */
                "application/json": components["schemas"]["ChallengeCodeRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "tokens": {
                     *         "access": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
                     *         "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg",
                     *         "expires_in": 3600
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["OperatorTokens"];
                };
            };
            400: components["responses"]["400.invalid_token.invalid_2fa_code.validation_error.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    refreshOperatorTokens: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg"
                 *     }
                 */
                "application/json": components["schemas"]["RefreshRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "tokens": {
                     *         "access": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
                     *         "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg",
                     *         "expires_in": 3600
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["OperatorTokens"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.token_revoked.token_expired.refresh_reused.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    logOutOperator: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Logged out. */
            205: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    enableOperatorSecondFactor: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["OperatorPasswordRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
                     *       "qr_code": "otpauth://totp/Ouvira:ops%40corp.io?issuer=Ouvira&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
                     *     }
                     */
                    "application/json": components["schemas"]["OperatorEnrolmentAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.invalid_credentials.authentication_required.token_expired.token_revoked.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    confirmOperatorSecondFactor: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "code": "482913"
                 *     }
                 */
                "application/json": components["schemas"]["ConfirmSecondFactorRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "The second factor is on."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.invalid_2fa_code.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listTenants: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Part of what is looked for, in upper or lower case.
                 * @example ada
                 */
                search?: string;
                /**
                 * @description Only those of this status.
                 * @example active
                 */
                status?: "active" | "read_only" | "suspended";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "name": "Acme",
                     *           "subdomain": "acme",
                     *           "status": "active",
                     *           "domains": [
                     *             "app.acme.example"
                     *           ],
                     *           "schema": "t_3",
                     *           "version": "1790000220000_create-activity-logs",
                     *           "migration_state": "applied",
                     *           "last_error": null,
                     *           "sends_messages": true,
                     *           "paid_until": "2026-01-31T09:30:00.000Z",
                     *           "on_trial": false,
                     *           "rate_limits": {
                     *             "authenticated": "5000/day"
                     *           },
                     *           "delete_after": null,
                     *           "created_at": "2026-01-31T09:30:00.000Z"
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenantsPage"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createTenant: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Acme",
                 *       "subdomain": "acme",
                 *       "owner": {
                 *         "full_name": "Ada Lovelace",
                 *         "email": "ada@corp.io",
                 *         "phone": "+201001234567",
                 *         "password": "correct horse battery staple"
                 *       }
                 *     }
                 */
                "application/json": components["schemas"]["NewPlatformTenant"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme",
                     *       "subdomain": "acme",
                     *       "status": "active",
                     *       "domains": [
                     *         "app.acme.example"
                     *       ],
                     *       "schema": "t_3",
                     *       "version": "1790000220000_create-activity-logs",
                     *       "migration_state": "applied",
                     *       "last_error": null,
                     *       "sends_messages": true,
                     *       "paid_until": "2026-01-31T09:30:00.000Z",
                     *       "on_trial": false,
                     *       "rate_limits": {
                     *         "authenticated": "5000/day"
                     *       },
                     *       "delete_after": null,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "password_link": "https://app.example.com/reset-password?tenant=acme#token=wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk"
                     *     }
                     */
                    "application/json": components["schemas"]["CreatedPlatformTenant"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getTenant: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme",
                     *       "subdomain": "acme",
                     *       "status": "active",
                     *       "domains": [
                     *         "app.acme.example"
                     *       ],
                     *       "schema": "t_3",
                     *       "version": "1790000220000_create-activity-logs",
                     *       "migration_state": "applied",
                     *       "last_error": null,
                     *       "sends_messages": true,
                     *       "paid_until": "2026-01-31T09:30:00.000Z",
                     *       "on_trial": false,
                     *       "rate_limits": {
                     *         "authenticated": "5000/day"
                     *       },
                     *       "delete_after": null,
                     *       "created_at": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenant"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteTenant: {
        parameters: {
            query?: {
                /**
                 * @description Days until it may be erased.
                 * @example 30
                 */
                grace_days?: number;
            };
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted; the work is done later. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme",
                     *       "subdomain": "acme",
                     *       "status": "active",
                     *       "domains": [
                     *         "app.acme.example"
                     *       ],
                     *       "schema": "t_3",
                     *       "version": "1790000220000_create-activity-logs",
                     *       "migration_state": "applied",
                     *       "last_error": null,
                     *       "sends_messages": true,
                     *       "paid_until": "2026-01-31T09:30:00.000Z",
                     *       "on_trial": false,
                     *       "rate_limits": {
                     *         "authenticated": "5000/day"
                     *       },
                     *       "delete_after": null,
                     *       "created_at": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenant"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changeTenant: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Acme",
                 *       "subdomain": "acme",
                 *       "rate_limits": {
                 *         "authenticated": "5000/day"
                 *       }
                 *     }
                 */
                "application/json": components["schemas"]["PlatformTenantChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme",
                     *       "subdomain": "acme",
                     *       "status": "active",
                     *       "domains": [
                     *         "app.acme.example"
                     *       ],
                     *       "schema": "t_3",
                     *       "version": "1790000220000_create-activity-logs",
                     *       "migration_state": "applied",
                     *       "last_error": null,
                     *       "sends_messages": true,
                     *       "paid_until": "2026-01-31T09:30:00.000Z",
                     *       "on_trial": false,
                     *       "rate_limits": {
                     *         "authenticated": "5000/day"
                     *       },
                     *       "delete_after": null,
                     *       "created_at": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenant"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getTenantUsage: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "users": 41,
                     *       "active_users": 12,
                     *       "companies": 3,
                     *       "pending_invitations": 2,
                     *       "activity_entries": 5310,
                     *       "security_entries": 5310,
                     *       "bytes": 1441792,
                     *       "last_login": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenantUsage"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.not_ready.overloaded.limited"];
        };
    };
    suspendTenant: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme",
                     *       "subdomain": "acme",
                     *       "status": "active",
                     *       "domains": [
                     *         "app.acme.example"
                     *       ],
                     *       "schema": "t_3",
                     *       "version": "1790000220000_create-activity-logs",
                     *       "migration_state": "applied",
                     *       "last_error": null,
                     *       "sends_messages": true,
                     *       "paid_until": "2026-01-31T09:30:00.000Z",
                     *       "on_trial": false,
                     *       "rate_limits": {
                     *         "authenticated": "5000/day"
                     *       },
                     *       "delete_after": null,
                     *       "created_at": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenant"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    activateTenant: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme",
                     *       "subdomain": "acme",
                     *       "status": "active",
                     *       "domains": [
                     *         "app.acme.example"
                     *       ],
                     *       "schema": "t_3",
                     *       "version": "1790000220000_create-activity-logs",
                     *       "migration_state": "applied",
                     *       "last_error": null,
                     *       "sends_messages": true,
                     *       "paid_until": "2026-01-31T09:30:00.000Z",
                     *       "on_trial": false,
                     *       "rate_limits": {
                     *         "authenticated": "5000/day"
                     *       },
                     *       "delete_after": null,
                     *       "created_at": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenant"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    makeTenantReadOnly: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme",
                     *       "subdomain": "acme",
                     *       "status": "active",
                     *       "domains": [
                     *         "app.acme.example"
                     *       ],
                     *       "schema": "t_3",
                     *       "version": "1790000220000_create-activity-logs",
                     *       "migration_state": "applied",
                     *       "last_error": null,
                     *       "sends_messages": true,
                     *       "paid_until": "2026-01-31T09:30:00.000Z",
                     *       "on_trial": false,
                     *       "rate_limits": {
                     *         "authenticated": "5000/day"
                     *       },
                     *       "delete_after": null,
                     *       "created_at": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformTenant"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listMigrations: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Only those of this state.
                 * @example failed
                 */
                state?: "pending" | "running" | "applied" | "failed";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "subdomain": "acme",
                     *           "version": "1790000220000_create-activity-logs",
                     *           "state": "applied",
                     *           "attempts": 1,
                     *           "last_error": null,
                     *           "duration_ms": 41,
                     *           "updated_at": "2026-01-31T09:30:00.000Z"
                     *         }
                     *       ],
                     *       "release": "1790000220000_create-activity-logs",
                     *       "behind": 0
                     *     }
                     */
                    "application/json": components["schemas"]["MigrationsPage"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createSupportToken: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "reason": "Ticket 4711: the invitation does not arrive"
                 *     }
                 */
                "application/json": components["schemas"]["NewSupportToken"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "access": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
                     *       "expires_in": 900
                     *     }
                     */
                    "application/json": components["schemas"]["SupportToken"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    endSupport: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listTenantDomains: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "id": 3,
                     *         "domain": "app.acme.example",
                     *         "is_primary": false,
                     *         "verified_at": null,
                     *         "record": {
                     *           "name": "_ouvira.app.acme.example",
                     *           "value": "ouvira-verification=6Yw1Jk0m4nPq"
                     *         }
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["PlatformDomains"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    addTenantDomain: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "domain": "app.acme.example"
                 *     }
                 */
                "application/json": components["schemas"]["NewPlatformDomain"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "domain": "app.acme.example",
                     *       "is_primary": false,
                     *       "verified_at": null,
                     *       "record": {
                     *         "name": "_ouvira.app.acme.example",
                     *         "value": "ouvira-verification=6Yw1Jk0m4nPq"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformDomain"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    verifyTenantDomain: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The tenant's id.
                 * @example 3
                 */
                id: number;
                /**
                 * @description The domain's id.
                 * @example 5
                 */
                domain_id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "domain": "app.acme.example",
                     *       "is_primary": false,
                     *       "verified_at": null,
                     *       "record": {
                     *         "name": "_ouvira.app.acme.example",
                     *         "value": "ouvira-verification=6Yw1Jk0m4nPq"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["PlatformDomain"];
                };
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    removeTenantDomain: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /**
                 * @description The tenant's id.
                 * @example 3
                 */
                id: number;
                /**
                 * @description The domain's id.
                 * @example 5
                 */
                domain_id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.limited"];
            403: components["responses"]["403.permission_denied.limited"];
            404: components["responses"]["404.not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    signUp: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "full_name": "Ada Lovelace",
                 *       "primary_mobile": "+201001234567"
                 *     }
                 */
                "application/json": components["schemas"]["SignupRequest"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "We have sent a code by SMS.",
                     *       "primary_mobile": "+201001234567"
                     *     }
                     */
                    "application/json": components["schemas"]["SignupAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.captcha_failed.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.not_ready.overloaded.limited"];
        };
    };
    verifyOtp: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "primary_mobile": "+201001234567",
                 *       "otp": "482913"
                 *     }
                 */
                "application/json": components["schemas"]["VerifyOtpRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "The number is verified. Finish the sign-up within 15 minutes.",
                     *       "primary_mobile": "+201001234567",
                     *       "verification_token": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk"
                     *     }
                     */
                    "application/json": components["schemas"]["VerifyOtpAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_otp.otp_expired.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    resendOtp: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "primary_mobile": "+201001234567"
                 *     }
                 */
                "application/json": components["schemas"]["ResendOtpRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "If a sign-up was begun with this number, a new code is on its way."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    finalizeSignUp: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "primary_mobile": "+201001234567",
                 *       "verification_token": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk",
                 *       "email": "ada@corp.io",
                 *       "password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["FinalizeRequest"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Your account is ready.",
                     *       "tokens": {
                     *         "access": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
                     *         "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg",
                     *         "expires_in": 3600
                     *       },
                     *       "user": {
                     *         "id": 7,
                     *         "account_uid": "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13",
                     *         "username": "user-afe80079fb38b",
                     *         "full_name": "Ada Lovelace",
                     *         "email": "ada@corp.io",
                     *         "primary_mobile": "+201001234567"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["FinalizeAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_token.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    logIn: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "identifier": "ada@corp.io",
                 *       "password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["LoginRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LoginAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.captcha_failed.tenant_required.limited"];
            401: components["responses"]["401.invalid_credentials.limited"];
            403: components["responses"]["403.account_disabled.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    verifyLoginCode: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "session_id": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk",
                 *       "code": "482913"
                 *     }
                 */
                "application/json": components["schemas"]["ChallengeCodeRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "tokens": {
                     *         "access": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
                     *         "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg",
                     *         "expires_in": 3600
                     *       },
                     *       "user": {
                     *         "id": 7,
                     *         "account_uid": "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13",
                     *         "username": "user-afe80079fb38b",
                     *         "full_name": "Ada Lovelace",
                     *         "email": "ada@corp.io",
                     *         "primary_mobile": "+201001234567"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["LoggedInAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_token.invalid_2fa_code.tenant_required.limited"];
            403: components["responses"]["403.account_disabled.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    resendLoginCode: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "session_id": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk"
                 *     }
                 */
                "application/json": components["schemas"]["ChallengeResendRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "A new code is on its way."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_token.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    verifyLoginBackupCode: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "session_id": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk",
                 *       "backup_code": "K7QX-2MZP-W4TB-6HVN-QD3E-5RLA"
                 *     }
                 */
                "application/json": components["schemas"]["ChallengeBackupRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "tokens": {
                     *         "access": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
                     *         "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg",
                     *         "expires_in": 3600
                     *       },
                     *       "user": {
                     *         "id": 7,
                     *         "account_uid": "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13",
                     *         "username": "user-afe80079fb38b",
                     *         "full_name": "Ada Lovelace",
                     *         "email": "ada@corp.io",
                     *         "primary_mobile": "+201001234567"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["LoggedInAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_token.invalid_2fa_code.tenant_required.limited"];
            403: components["responses"]["403.account_disabled.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    refreshTokens: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg"
                 *     }
                 */
                "application/json": components["schemas"]["RefreshRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "access": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
                     *       "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg",
                     *       "expires_in": 3600
                     *     }
                     */
                    "application/json": components["schemas"]["Tokens"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.token_revoked.token_expired.refresh_reused.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    logOut: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "refresh": "12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg"
                 *     }
                 */
                "application/json": components["schemas"]["RefreshRequest"];
            };
        };
        responses: {
            /** @description Logged out. */
            205: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    enableSecondFactor: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "method": "totp",
                 *       "password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["EnableSecondFactorRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "method": "totp",
                     *       "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
                     *       "qr_code": "otpauth://totp/acme:ada%40corp.io?issuer=acme&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
                     *       "backup_codes": [
                     *         "K7QX-2MZP-W4TB-6HVN-QD3E-5RLA"
                     *       ],
                     *       "confirmed": false
                     *     }
                     */
                    "application/json": components["schemas"]["EnableSecondFactorAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.invalid_credentials.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    confirmSecondFactor: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "code": "482913"
                 *     }
                 */
                "application/json": components["schemas"]["ConfirmSecondFactorRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Two-factor login is on."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_2fa_code.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    sendSecondFactorCode: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "A code is on its way."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    disableSecondFactor: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "password": "correct horse battery staple",
                 *       "code": "482913"
                 *     }
                 */
                "application/json": components["schemas"]["DisableSecondFactorRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Two-factor login is off."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_2fa_code.tenant_required.limited"];
            401: components["responses"]["401.invalid_credentials.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    reissueBackupCodes: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["BackupCodesRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "backup_codes": [
                     *         "K7QX-2MZP-W4TB-6HVN-QD3E-5RLA"
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["BackupCodesAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.invalid_credentials.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    requestPasswordReset: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "identifier": "ada@corp.io"
                 *     }
                 */
                "application/json": components["schemas"]["PasswordForgotRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work is done later. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "If the account exists, a link is on its way."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    resetPassword: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "token": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk",
                 *       "password": "no horse needs this staple"
                 *     }
                 */
                "application/json": components["schemas"]["PasswordResetRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "The password is set. Log in with it."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_token.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changePassword: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "current_password": "correct horse battery staple",
                 *       "new_password": "no horse needs this staple"
                 *     }
                 */
                "application/json": components["schemas"]["PasswordChangeRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "The password is changed."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.invalid_credentials.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listUsers: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Part of what is looked for, in upper or lower case.
                 * @example ada
                 */
                search?: string;
                /**
                 * @description Only those of this company.
                 * @example 3
                 */
                company?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 7,
                     *           "username": "user-afe80079fb38b",
                     *           "full_name": "Ada Lovelace",
                     *           "email": "ada@corp.io",
                     *           "primary_mobile": "+201001234567",
                     *           "is_active": true,
                     *           "is_tenant_admin": false,
                     *           "is_2fa_enabled": true,
                     *           "date_joined": "2026-01-31T09:30:00.000Z",
                     *           "last_login": "2026-01-31T09:30:00.000Z"
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["UsersPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getUser: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 7,
                     *       "username": "user-afe80079fb38b",
                     *       "full_name": "Ada Lovelace",
                     *       "email": "ada@corp.io",
                     *       "primary_mobile": "+201001234567",
                     *       "is_active": true,
                     *       "is_tenant_admin": false,
                     *       "is_2fa_enabled": true,
                     *       "date_joined": "2026-01-31T09:30:00.000Z",
                     *       "last_login": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["ManagedUser"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changeUser: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "is_active": false
                 *     }
                 */
                "application/json": components["schemas"]["UserChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 7,
                     *       "username": "user-afe80079fb38b",
                     *       "full_name": "Ada Lovelace",
                     *       "email": "ada@corp.io",
                     *       "primary_mobile": "+201001234567",
                     *       "is_active": true,
                     *       "is_tenant_admin": false,
                     *       "is_2fa_enabled": true,
                     *       "date_joined": "2026-01-31T09:30:00.000Z",
                     *       "last_login": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["ManagedUser"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    resetUserSecondFactor: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "Two-factor login of this user is off."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getProfile: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 7,
                     *       "username": "user-afe80079fb38b",
                     *       "full_name": "Ada Lovelace",
                     *       "email": "ada@corp.io",
                     *       "primary_mobile": "+201001234567",
                     *       "email_verified": true,
                     *       "phone_verified": true,
                     *       "account_uid": "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13",
                     *       "is_2fa_enabled": true,
                     *       "two_fa_type": "totp",
                     *       "date_joined": "2026-01-31T09:30:00.000Z",
                     *       "last_login": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Profile"];
                };
            };
            400: components["responses"]["400.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replaceProfile: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "full_name": "Ada Lovelace",
                 *       "email": "ada@corp.io",
                 *       "current_password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["ProfileReplacement"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 7,
                     *       "username": "user-afe80079fb38b",
                     *       "full_name": "Ada Lovelace",
                     *       "email": "ada@corp.io",
                     *       "primary_mobile": "+201001234567",
                     *       "email_verified": true,
                     *       "phone_verified": true,
                     *       "account_uid": "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13",
                     *       "is_2fa_enabled": true,
                     *       "two_fa_type": "totp",
                     *       "date_joined": "2026-01-31T09:30:00.000Z",
                     *       "last_login": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Profile"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.invalid_credentials.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changeProfile: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "full_name": "Ada Lovelace",
                 *       "email": "ada@corp.io",
                 *       "current_password": "correct horse battery staple"
                 *     }
                 */
                "application/json": components["schemas"]["ProfileChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 7,
                     *       "username": "user-afe80079fb38b",
                     *       "full_name": "Ada Lovelace",
                     *       "email": "ada@corp.io",
                     *       "primary_mobile": "+201001234567",
                     *       "email_verified": true,
                     *       "phone_verified": true,
                     *       "account_uid": "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13",
                     *       "is_2fa_enabled": true,
                     *       "two_fa_type": "totp",
                     *       "date_joined": "2026-01-31T09:30:00.000Z",
                     *       "last_login": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["Profile"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.invalid_credentials.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    testSession: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "user": {
                     *         "id": 7,
                     *         "username": "user-afe80079fb38b",
                     *         "full_name": "Ada Lovelace",
                     *         "email": "ada@corp.io",
                     *         "primary_mobile": "+201001234567",
                     *         "account_uid": "3f2b8c1e-6d4a-4b7e-9a51-0c2d8e7f6a13"
                     *       },
                     *       "token_expires_at": "2026-01-31T09:30:00.000Z"
                     *     }
                     */
                    "application/json": components["schemas"]["SessionTest"];
                };
            };
            400: components["responses"]["400.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    verifyEmail: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "token": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk"
                 *     }
                 */
                "application/json": components["schemas"]["VerifyEmailRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "The e-mail address is verified."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_token.tenant_required.limited"];
            403: components["responses"]["403.tenant_suspended.tenant_read_only.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    resendEmailVerification: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "message": "A link is on its way."
                     *     }
                     */
                    "application/json": components["schemas"]["MessageAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listSessions: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "id": 12,
                     *         "device": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                     *         "ip": "203.0.113.7",
                     *         "created_at": "2026-01-31T09:30:00.000Z",
                     *         "last_used_at": "2026-01-31T09:30:00.000Z",
                     *         "expires_at": "2026-01-31T09:30:00.000Z",
                     *         "current": true
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Session"][];
                };
            };
            400: components["responses"]["400.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    endSession: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Ended. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getCompanySettings: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "default_language": "en-GB",
                     *       "default_currency": "EGP",
                     *       "timezone": "Africa/Cairo",
                     *       "fiscal_year_start_month": 1,
                     *       "feature_flags": {
                     *         "beta": true
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["CompanySettings"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replaceCompanySettings: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "default_language": "en-GB",
                 *       "default_currency": "EGP",
                 *       "timezone": "Africa/Cairo",
                 *       "fiscal_year_start_month": 1,
                 *       "feature_flags": {
                 *         "beta": true
                 *       }
                 *     }
                 */
                "application/json": components["schemas"]["CompanySettingsReplacement"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "default_language": "en-GB",
                     *       "default_currency": "EGP",
                     *       "timezone": "Africa/Cairo",
                     *       "fiscal_year_start_month": 1,
                     *       "feature_flags": {
                     *         "beta": true
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["CompanySettings"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changeCompanySettings: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "default_language": "en-GB",
                 *       "default_currency": "EGP",
                 *       "timezone": "Africa/Cairo",
                 *       "fiscal_year_start_month": 1,
                 *       "feature_flags": {
                 *         "beta": true
                 *       }
                 *     }
                 */
                "application/json": components["schemas"]["CompanySettingsChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "default_language": "en-GB",
                     *       "default_currency": "EGP",
                     *       "timezone": "Africa/Cairo",
                     *       "fiscal_year_start_month": 1,
                     *       "feature_flags": {
                     *         "beta": true
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["CompanySettings"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getCompanyLogo: {
        parameters: {
            query?: {
                /**
                 * @description Has no effect: a new logo has a new address.
                 * @example 9f86d081884c7d65
                 */
                v?: string;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": Blob | ReadableStream;
                    "image/jpeg": Blob | ReadableStream;
                    "image/webp": Blob | ReadableStream;
                };
            };
            /** @description It is what `If-None-Match` names. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replaceCompanyLogo: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "image/png": Blob | ReadableStream;
                "image/jpeg": Blob | ReadableStream;
                "image/webp": Blob | ReadableStream;
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "logo": "/api/company/3/logo/?v=9f86d081884c7d65",
                     *       "content_type": "image/png",
                     *       "bytes": 20480
                     *     }
                     */
                    "application/json": components["schemas"]["CompanyLogo"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteCompanyLogo: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listCompanies: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Part of what is looked for, in upper or lower case.
                 * @example ada
                 */
                search?: string;
                /**
                 * @description Only companies directly below this one.
                 * @example 3
                 */
                parent?: number;
                /**
                 * @description What to sort by; `-` turns it around.
                 * @example -created_at
                 */
                ordering?: "name" | "-name" | "created_at" | "-created_at";
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "name": "Acme Ltd",
                     *           "logo": "/api/company/3/logo/?v=9f86d081884c7d65",
                     *           "status": "active",
                     *           "is_parent_company": true,
                     *           "created_at": "2026-01-31T09:30:00.000Z"
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["CompaniesPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createCompany: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Acme Ltd",
                 *       "description": "Makes everything.",
                 *       "address": "1 Main Street, Cairo",
                 *       "parent_company": null
                 *     }
                 */
                "application/json": components["schemas"]["NewCompany"];
            };
        };
        responses: {
            /** @description The company that was made. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme Ltd",
                     *       "logo": "/api/company/3/logo/?v=9f86d081884c7d65",
                     *       "description": "Makes everything.",
                     *       "address": "1 Main Street, Cairo",
                     *       "status": "active",
                     *       "create_by": 7,
                     *       "parent_company": null,
                     *       "is_parent_company": true,
                     *       "settings": {
                     *         "default_language": "en-GB",
                     *         "default_currency": "EGP",
                     *         "timezone": "Africa/Cairo",
                     *         "fiscal_year_start_month": 1,
                     *         "feature_flags": {
                     *           "beta": true
                     *         }
                     *       },
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Company"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getCompany: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme Ltd",
                     *       "logo": "/api/company/3/logo/?v=9f86d081884c7d65",
                     *       "description": "Makes everything.",
                     *       "address": "1 Main Street, Cairo",
                     *       "status": "active",
                     *       "create_by": 7,
                     *       "parent_company": null,
                     *       "is_parent_company": true,
                     *       "settings": {
                     *         "default_language": "en-GB",
                     *         "default_currency": "EGP",
                     *         "timezone": "Africa/Cairo",
                     *         "fiscal_year_start_month": 1,
                     *         "feature_flags": {
                     *           "beta": true
                     *         }
                     *       },
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Company"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replaceCompany: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Acme Ltd",
                 *       "description": "Makes everything.",
                 *       "address": "1 Main Street, Cairo",
                 *       "parent_company": null,
                 *       "is_parent_company": true,
                 *       "status": "active"
                 *     }
                 */
                "application/json": components["schemas"]["CompanyReplacement"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme Ltd",
                     *       "logo": "/api/company/3/logo/?v=9f86d081884c7d65",
                     *       "description": "Makes everything.",
                     *       "address": "1 Main Street, Cairo",
                     *       "status": "active",
                     *       "create_by": 7,
                     *       "parent_company": null,
                     *       "is_parent_company": true,
                     *       "settings": {
                     *         "default_language": "en-GB",
                     *         "default_currency": "EGP",
                     *         "timezone": "Africa/Cairo",
                     *         "fiscal_year_start_month": 1,
                     *         "feature_flags": {
                     *           "beta": true
                     *         }
                     *       },
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Company"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteCompany: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changeCompany: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Acme Ltd",
                 *       "description": "Makes everything.",
                 *       "address": "1 Main Street, Cairo",
                 *       "parent_company": null
                 *     }
                 */
                "application/json": components["schemas"]["CompanyChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "name": "Acme Ltd",
                     *       "logo": "/api/company/3/logo/?v=9f86d081884c7d65",
                     *       "description": "Makes everything.",
                     *       "address": "1 Main Street, Cairo",
                     *       "status": "active",
                     *       "create_by": 7,
                     *       "parent_company": null,
                     *       "is_parent_company": true,
                     *       "settings": {
                     *         "default_language": "en-GB",
                     *         "default_currency": "EGP",
                     *         "timezone": "Africa/Cairo",
                     *         "fiscal_year_start_month": 1,
                     *         "feature_flags": {
                     *           "beta": true
                     *         }
                     *       },
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Company"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listSubsidiaries: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "name": "Acme Ltd",
                     *           "logo": "/api/company/3/logo/?v=9f86d081884c7d65",
                     *           "status": "active",
                     *           "is_parent_company": true,
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "parent_company": 2
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["SubsidiariesPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listPermissions: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Part of what is looked for, in upper or lower case.
                 * @example ada
                 */
                search?: string;
                /**
                 * @description Only those of this module.
                 * @example company
                 */
                module?: string;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "code": "reports.export",
                     *           "module": "reports",
                     *           "description": "Export reports as CSV.",
                     *           "is_built_in": false,
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "updated_at": "2026-01-31T09:30:00.000Z",
                     *           "deleted_at": null,
                     *           "is_deleted": false
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["PermissionsPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createPermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "code": "reports.export",
                 *       "module": "reports",
                 *       "description": "Export reports as CSV."
                 *     }
                 */
                "application/json": components["schemas"]["NewPermission"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "code": "reports.export",
                     *       "module": "reports",
                     *       "description": "Export reports as CSV.",
                     *       "is_built_in": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Permission"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getPermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "code": "reports.export",
                     *       "module": "reports",
                     *       "description": "Export reports as CSV.",
                     *       "is_built_in": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Permission"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replacePermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "code": "reports.export",
                 *       "module": "reports",
                 *       "description": "Export reports as CSV."
                 *     }
                 */
                "application/json": components["schemas"]["PermissionReplacement"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "code": "reports.export",
                     *       "module": "reports",
                     *       "description": "Export reports as CSV.",
                     *       "is_built_in": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Permission"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deletePermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changePermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "code": "reports.export",
                 *       "module": "reports",
                 *       "description": "Export reports as CSV."
                 *     }
                 */
                "application/json": components["schemas"]["PermissionChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "code": "reports.export",
                     *       "module": "reports",
                     *       "description": "Export reports as CSV.",
                     *       "is_built_in": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Permission"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listRoles: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Part of what is looked for, in upper or lower case.
                 * @example ada
                 */
                search?: string;
                /**
                 * @description Only the system's roles and those of this company.
                 * @example 3
                 */
                company?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "role": "Accountant",
                     *           "desc": "Sees what was booked.",
                     *           "company": 3,
                     *           "is_system_role": false,
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "updated_at": "2026-01-31T09:30:00.000Z",
                     *           "deleted_at": null,
                     *           "is_deleted": false
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["RolesPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "role": "Accountant",
                 *       "desc": "Sees what was booked.",
                 *       "company": 3
                 *     }
                 */
                "application/json": components["schemas"]["NewRole"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "role": "Accountant",
                     *       "desc": "Sees what was booked.",
                     *       "company": 3,
                     *       "is_system_role": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Role"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "role": "Accountant",
                     *       "desc": "Sees what was booked.",
                     *       "company": 3,
                     *       "is_system_role": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Role"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replaceRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "role": "Accountant",
                 *       "desc": "Sees what was booked.",
                 *       "company": 3
                 *     }
                 */
                "application/json": components["schemas"]["RoleReplacement"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "role": "Accountant",
                     *       "desc": "Sees what was booked.",
                     *       "company": 3,
                     *       "is_system_role": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Role"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    changeRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "role": "Accountant",
                 *       "desc": "Sees what was booked.",
                 *       "company": 3
                 *     }
                 */
                "application/json": components["schemas"]["RoleChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "role": "Accountant",
                     *       "desc": "Sees what was booked.",
                     *       "company": 3,
                     *       "is_system_role": false,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Role"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listRolePermissions: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Only those of this role.
                 * @example 3
                 */
                role?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "role": 3,
                     *           "permission": 3,
                     *           "permission_code": "members.view",
                     *           "granted": true,
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "updated_at": "2026-01-31T09:30:00.000Z",
                     *           "deleted_at": null,
                     *           "is_deleted": false
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["RolePermissionsPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createRolePermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "role": 3,
                 *       "permission": 3
                 *     }
                 */
                "application/json": components["schemas"]["NewRolePermission"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "role": 3,
                     *       "permission": 3,
                     *       "permission_code": "members.view",
                     *       "granted": true,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["RolePermission"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getRolePermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "role": 3,
                     *       "permission": 3,
                     *       "permission_code": "members.view",
                     *       "granted": true,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["RolePermission"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteRolePermission: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listMemberships: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Only those of this user.
                 * @example 7
                 */
                user?: number;
                /**
                 * @description Only those of this company.
                 * @example 3
                 */
                company?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "user": 7,
                     *           "company": 3,
                     *           "is_primary_company": true,
                     *           "is_active": true,
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "updated_at": "2026-01-31T09:30:00.000Z",
                     *           "deleted_at": null,
                     *           "is_deleted": false
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["MembershipsPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createMembership: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user": 7,
                 *       "company": 3
                 *     }
                 */
                "application/json": components["schemas"]["NewMembership"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "user": 7,
                     *       "company": 3,
                     *       "is_primary_company": true,
                     *       "is_active": true,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Membership"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getMembership: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "user": 7,
                     *       "company": 3,
                     *       "is_primary_company": true,
                     *       "is_active": true,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Membership"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replaceMembership: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user": 7,
                 *       "company": 3,
                 *       "is_primary_company": true,
                 *       "is_active": true
                 *     }
                 */
                "application/json": components["schemas"]["MembershipReplacement"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "user": 7,
                     *       "company": 3,
                     *       "is_primary_company": true,
                     *       "is_active": true,
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Membership"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteMembership: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listMembershipRoles: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Only those of this user.
                 * @example 7
                 */
                user?: number;
                /**
                 * @description Only those of this company.
                 * @example 3
                 */
                company?: number;
                /**
                 * @description Only those of this membership.
                 * @example 3
                 */
                user_company?: number;
                /**
                 * @description Only those of this role.
                 * @example 3
                 */
                role?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "user_company": {
                     *             "id": 3,
                     *             "user": 7,
                     *             "company": 3,
                     *             "is_active": true
                     *           },
                     *           "role": {
                     *             "id": 3,
                     *             "role": "Accountant",
                     *             "desc": "Sees what was booked.",
                     *             "company": 3
                     *           },
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "updated_at": "2026-01-31T09:30:00.000Z",
                     *           "deleted_at": null,
                     *           "is_deleted": false
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["MembershipRolesPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createMembershipRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "user_company": 3,
                 *       "role": 3
                 *     }
                 */
                "application/json": components["schemas"]["NewMembershipRole"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "user_company": {
                     *         "id": 3,
                     *         "user": 7,
                     *         "company": 3,
                     *         "is_active": true
                     *       },
                     *       "role": {
                     *         "id": 3,
                     *         "role": "Accountant",
                     *         "desc": "Sees what was booked.",
                     *         "company": 3
                     *       },
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["MembershipRole"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getMembershipRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "user_company": {
                     *         "id": 3,
                     *         "user": 7,
                     *         "company": 3,
                     *         "is_active": true
                     *       },
                     *       "role": {
                     *         "id": 3,
                     *         "role": "Accountant",
                     *         "desc": "Sees what was booked.",
                     *         "company": 3
                     *       },
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["MembershipRole"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteMembershipRole: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listInvitations: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description Only those of this company.
                 * @example 3
                 */
                company?: number;
                /**
                 * @description Only those of this status.
                 * @example pending
                 */
                status?: "pending" | "accepted" | "revoked" | "expired";
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "email": "ada@corp.io",
                     *           "company": 3,
                     *           "role": 3,
                     *           "status": "pending",
                     *           "invited_by": 7,
                     *           "expires_at": "2026-01-31T09:30:00.000Z",
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "updated_at": "2026-01-31T09:30:00.000Z",
                     *           "deleted_at": null,
                     *           "is_deleted": false
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["InvitationsPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    createInvitation: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "email": "ada@corp.io",
                 *       "company": 3,
                 *       "role": 3,
                 *       "expires_at": "2027-01-31T12:00:00Z"
                 *     }
                 */
                "application/json": components["schemas"]["NewInvitation"];
            };
        };
        responses: {
            /** @description Created. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "email": "ada@corp.io",
                     *       "company": 3,
                     *       "role": 3,
                     *       "status": "pending",
                     *       "invited_by": 7,
                     *       "expires_at": "2026-01-31T09:30:00.000Z",
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false,
                     *       "token": "q1yM3cT8mZ0J0u4gk3V2cW7rY5bN6xK9dF1hG2jL3pA"
                     *     }
                     */
                    "application/json": components["schemas"]["CreatedInvitation"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    acceptInvitation: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "token": "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk"
                 *     }
                 */
                "application/json": components["schemas"]["AcceptInvitation"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "detail": "You belong to Acme Ltd now.",
                     *       "company": 3
                     *     }
                     */
                    "application/json": components["schemas"]["AcceptedInvitation"];
                };
            };
            400: components["responses"]["400.validation_error.invalid_token.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getInvitation: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "email": "ada@corp.io",
                     *       "company": 3,
                     *       "role": 3,
                     *       "status": "pending",
                     *       "invited_by": 7,
                     *       "expires_at": "2026-01-31T09:30:00.000Z",
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Invitation"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    replaceInvitation: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "email": "ada@corp.io",
                 *       "company": 3,
                 *       "role": 3,
                 *       "expires_at": "2027-01-31T12:00:00Z"
                 *     }
                 */
                "application/json": components["schemas"]["InvitationReplacement"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": 3,
                     *       "email": "ada@corp.io",
                     *       "company": 3,
                     *       "role": 3,
                     *       "status": "pending",
                     *       "invited_by": 7,
                     *       "expires_at": "2026-01-31T09:30:00.000Z",
                     *       "created_at": "2026-01-31T09:30:00.000Z",
                     *       "updated_at": "2026-01-31T09:30:00.000Z",
                     *       "deleted_at": null,
                     *       "is_deleted": false
                     *     }
                     */
                    "application/json": components["schemas"]["Invitation"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    deleteInvitation: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    revokeInvitation: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "detail": "The invitation is revoked."
                     *     }
                     */
                    "application/json": components["schemas"]["DetailAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    resendInvitation: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path: {
                /**
                 * @description The id of the row.
                 * @example 3
                 */
                id: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "detail": "The invitation was sent again."
                     *     }
                     */
                    "application/json": components["schemas"]["DetailAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            409: components["responses"]["409.conflict.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            414: components["responses"]["414.uri_too_long.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    getMyPermissions: {
        parameters: {
            query: {
                /**
                 * @description The company.
                 * @example 3
                 */
                company: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "company": 3,
                     *       "permissions": [
                     *         "members.view"
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["MyPermissions"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listActivity: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1; deep pages are found faster by `cursor`.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description `next_cursor` of the page before; instead of `page`.
                 * @example MTc5NTQ4NjQwMDAwMDAwMC40Mg
                 */
                cursor?: string;
                /**
                 * @description What was done.
                 * @example UPDATE
                 */
                action?: string;
                /**
                 * @description No entry before this: a day of UTC, or a moment.
                 * @example 2026-11-24
                 */
                from?: string;
                /**
                 * @description No entry after this: a day of UTC, or a moment.
                 * @example 2026-11-24
                 */
                to?: string;
                /**
                 * @description Only those of this company.
                 * @example 3
                 */
                company?: number;
                /**
                 * @description What kind of row was changed.
                 * @example Company
                 */
                entity_type?: string;
                /**
                 * @description Which row of that kind.
                 * @example 3
                 */
                entity_id?: number;
                /**
                 * @description Only those of this user.
                 * @example 7
                 */
                user?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "user": 7,
                     *           "user_display": "ada@corp.io",
                     *           "date": 20261124,
                     *           "action": "UPDATE",
                     *           "ip_address": "203.0.113.7",
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "company": 3,
                     *           "entity_type": "Company",
                     *           "entity_id": 3,
                     *           "old_values": {
                     *             "name": "Acme"
                     *           },
                     *           "new_values": {
                     *             "name": "Acme Ltd"
                     *           }
                     *         }
                     *       ],
                     *       "next_cursor": "MTc5NTQ4NjQwMDAwMDAwMC40Mg"
                     *     }
                     */
                    "application/json": components["schemas"]["ActivityPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listOwnActivity: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1; deep pages are found faster by `cursor`.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description `next_cursor` of the page before; instead of `page`.
                 * @example MTc5NTQ4NjQwMDAwMDAwMC40Mg
                 */
                cursor?: string;
                /**
                 * @description What was done.
                 * @example UPDATE
                 */
                action?: string;
                /**
                 * @description No entry before this: a day of UTC, or a moment.
                 * @example 2026-11-24
                 */
                from?: string;
                /**
                 * @description No entry after this: a day of UTC, or a moment.
                 * @example 2026-11-24
                 */
                to?: string;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "user": 7,
                     *           "user_display": "ada@corp.io",
                     *           "date": 20261124,
                     *           "action": "UPDATE",
                     *           "ip_address": "203.0.113.7",
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "company": 3,
                     *           "entity_type": "Company",
                     *           "entity_id": 3,
                     *           "old_values": {
                     *             "name": "Acme"
                     *           },
                     *           "new_values": {
                     *             "name": "Acme Ltd"
                     *           }
                     *         }
                     *       ],
                     *       "next_cursor": "MTc5NTQ4NjQwMDAwMDAwMC40Mg"
                     *     }
                     */
                    "application/json": components["schemas"]["ActivityPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listSecurityEntries: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1; deep pages are found faster by `cursor`.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description `next_cursor` of the page before; instead of `page`.
                 * @example MTc5NTQ4NjQwMDAwMDAwMC40Mg
                 */
                cursor?: string;
                /**
                 * @description What was done.
                 * @example UPDATE
                 */
                action?: string;
                /**
                 * @description No entry before this: a day of UTC, or a moment.
                 * @example 2026-11-24
                 */
                from?: string;
                /**
                 * @description No entry after this: a day of UTC, or a moment.
                 * @example 2026-11-24
                 */
                to?: string;
                /**
                 * @description Of this user, for admins of the tenant. The caller's own otherwise.
                 * @example 7
                 */
                user?: number;
                /**
                 * @description `true`, for admins of the tenant: of everybody, and what is nobody's, such as a login of an unknown name.
                 * @example true
                 */
                all?: "true" | "false";
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "user": 7,
                     *           "user_display": "ada@corp.io",
                     *           "date": 20261124,
                     *           "action": "LOGIN_SUCCEEDED",
                     *           "ip_address": "203.0.113.7",
                     *           "created_at": "2026-01-31T09:30:00.000Z",
                     *           "metadata": {
                     *             "session": 12,
                     *             "second_factor": "none"
                     *           }
                     *         }
                     *       ],
                     *       "next_cursor": "MTc5NTQ4NjQwMDAwMDAwMC40Mg"
                     *     }
                     */
                    "application/json": components["schemas"]["SecurityPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    listNotifications: {
        parameters: {
            query?: {
                /**
                 * @description Which page, from 1.
                 * @example 1
                 */
                page?: number;
                /**
                 * @description Rows of a page, 100 at most.
                 * @example 20
                 */
                page_size?: number;
                /**
                 * @description `true`: only those not read.
                 * @example true
                 */
                unread?: "true" | "false";
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "count": 1,
                     *       "next": null,
                     *       "previous": null,
                     *       "results": [
                     *         {
                     *           "id": 3,
                     *           "message": "You are Accountant of Acme Ltd now.",
                     *           "read": false,
                     *           "created_at": "2026-01-31T09:30:00.000Z"
                     *         }
                     *       ],
                     *       "unread_count": 1
                     *     }
                     */
                    "application/json": components["schemas"]["NotificationsPage"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    markNotificationsRead: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "notification_id": 3
                 *     }
                 */
                "application/json": components["schemas"]["MarkRead"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "detail": "Marked as read."
                     *     }
                     */
                    "application/json": components["schemas"]["DetailAnswer"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.tenant_read_only.account_disabled.limited"];
            404: components["responses"]["404.not_found.tenant_not_found.limited"];
            413: components["responses"]["413.payload_too_large.limited"];
            415: components["responses"]["415.unsupported_media_type.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
    verifyLogs: {
        parameters: {
            query?: {
                /**
                 * @description Only seals of the activity log before this one.
                 * @example 120
                 */
                before_activity?: number;
                /**
                 * @description Only seals of the security log before this one.
                 * @example 250
                 */
                before_security?: number;
            };
            header?: {
                /**
                 * @description The tenant's subdomain. Not needed where the host names the tenant; where both do, the header wins.
                 * @example demo
                 */
                "X-Tenant"?: components["parameters"]["Tenant"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "intact",
                     *       "logs": [
                     *         {
                     *           "log": "activity",
                     *           "seals": 120,
                     *           "checked_entries": 5310,
                     *           "unsealed_entries": 0,
                     *           "pending_checkpoints": 0,
                     *           "oldest_seal": 1,
                     *           "is_complete": true,
                     *           "findings": []
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["Verification"];
                };
            };
            400: components["responses"]["400.validation_error.tenant_required.limited"];
            401: components["responses"]["401.authentication_required.token_expired.token_revoked.token_tenant_mismatch.limited"];
            403: components["responses"]["403.permission_denied.tenant_suspended.account_disabled.limited"];
            404: components["responses"]["404.tenant_not_found.limited"];
            429: components["responses"]["429.rate_limited.limited"];
            500: components["responses"]["500.internal_error.limited"];
            503: components["responses"]["503.overloaded.not_ready.limited"];
        };
    };
}
