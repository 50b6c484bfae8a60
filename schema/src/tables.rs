//! The tables as both databases have them (`migrations/`).

diesel::table! {
    models (id) {
        id -> Text,
        version -> BigInt,
        model_name -> Text,
        upstream_model -> Text,
        api_base -> Nullable<Text>,
        api_key_sealed -> Nullable<Text>,
        input_price -> Nullable<BigInt>,
        cached_input_price -> Nullable<BigInt>,
        output_price -> Nullable<BigInt>,
        context_window -> Nullable<BigInt>,
        max_output_tokens -> Nullable<BigInt>,
        admission_weight -> Integer,
        max_in_flight -> Nullable<BigInt>,
        enabled -> Bool,
        aliases -> Text,
        cache_enabled -> Bool,
        cache_ttl_secs -> Nullable<BigInt>,
        request_timeout_secs -> Nullable<BigInt>,
        fallback_models -> Text,
        upstream_headers_sealed -> Nullable<Text>,
        description -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    model_names (name) {
        name -> Text,
        model_id -> Text,
    }
}

diesel::table! {
    tenant_groups (id) {
        id -> Text,
        version -> BigInt,
        name -> Text,
        weight -> Integer,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    tenants (id) {
        id -> Text,
        version -> BigInt,
        name -> Text,
        weight -> Integer,
        group_id -> Text,
        tokens_per_minute -> Nullable<BigInt>,
        requests_per_minute -> Nullable<BigInt>,
        max_in_flight -> Nullable<BigInt>,
        max_queued -> Nullable<BigInt>,
        status -> Text,
        allowed_models -> Nullable<Text>,
        allowed_tools -> Nullable<Text>,
        budgets -> Text,
        brownout -> Nullable<Text>,
        metadata -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    keys (id) {
        id -> Text,
        version -> BigInt,
        tenant_id -> Text,
        name -> Text,
        key_prefix -> Text,
        key_hash -> Text,
        previous_hash -> Nullable<Text>,
        previous_until -> Nullable<BigInt>,
        disabled -> Bool,
        expires_at -> Nullable<BigInt>,
        allowed_models -> Nullable<Text>,
        allowed_tools -> Nullable<Text>,
        tokens_per_minute -> Nullable<BigInt>,
        requests_per_minute -> Nullable<BigInt>,
        max_in_flight -> Nullable<BigInt>,
        budgets -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    capacity (id) {
        id -> Text,
        version -> BigInt,
        max_in_flight -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    admin_tokens (id) {
        id -> Text,
        name -> Text,
        role -> Text,
        token_hash -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    audit (id) {
        id -> Text,
        ts -> BigInt,
        actor_id -> Text,
        actor_name -> Text,
        method -> Text,
        action -> Text,
        kind -> Text,
        object_id -> Text,
        object_name -> Text,
        before_json -> Nullable<Text>,
        after_json -> Nullable<Text>,
        request_id -> Text,
        address -> Nullable<Text>,
    }
}

diesel::table! {
    key_uses (key_id) {
        key_id -> Text,
        last_used_at -> BigInt,
    }
}

diesel::table! {
    ledger (row_id) {
        row_id -> Text,
        request_id -> Text,
        ts -> BigInt,
        tenant_id -> Text,
        key_id -> Text,
        model -> Text,
        upstream_model -> Text,
        route -> Text,
        stream -> Bool,
        admission -> Text,
        status -> Integer,
        error_code -> Nullable<Text>,
        cache -> Text,
        estimated_tokens -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        usage_source -> Text,
        cost_pico -> BigInt,
        queue_ms -> BigInt,
        ttft_ms -> Nullable<BigInt>,
        total_ms -> BigInt,
        target_pod -> Nullable<Text>,
        session_id -> Nullable<Text>,
        mcp_server -> Nullable<Text>,
        mcp_tool -> Nullable<Text>,
        bytes_in -> BigInt,
        bytes_out -> BigInt,
        input_cost_pico -> Nullable<BigInt>,
        cached_input_cost_pico -> Nullable<BigInt>,
        unpriced -> Bool,
    }
}

diesel::table! {
    usage_hourly (bucket, tenant_id, key_id, model) {
        bucket -> BigInt,
        tenant_id -> Text,
        key_id -> Text,
        model -> Text,
        requests -> BigInt,
        errors -> BigInt,
        refused -> BigInt,
        unpriced -> BigInt,
        cache_hits -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        saved_tokens -> BigInt,
        cost_high -> BigInt,
        cost_low -> BigInt,
        input_cost_high -> BigInt,
        input_cost_low -> BigInt,
        cached_cost_high -> BigInt,
        cached_cost_low -> BigInt,
        output_cost_high -> BigInt,
        output_cost_low -> BigInt,
    }
}

diesel::table! {
    usage_daily (bucket, tenant_id, key_id, model) {
        bucket -> BigInt,
        tenant_id -> Text,
        key_id -> Text,
        model -> Text,
        requests -> BigInt,
        errors -> BigInt,
        refused -> BigInt,
        unpriced -> BigInt,
        cache_hits -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        saved_tokens -> BigInt,
        cost_high -> BigInt,
        cost_low -> BigInt,
        input_cost_high -> BigInt,
        input_cost_low -> BigInt,
        cached_cost_high -> BigInt,
        cached_cost_low -> BigInt,
        output_cost_high -> BigInt,
        output_cost_low -> BigInt,
    }
}

diesel::table! {
    usage_by_replica (tenant_id, key_id, replica, bucket) {
        tenant_id -> Text,
        key_id -> Text,
        replica -> Text,
        bucket -> BigInt,
        tokens -> BigInt,
        cost_high -> BigInt,
        cost_low -> BigInt,
    }
}

diesel::table! {
    usage_retention (id) {
        id -> Text,
        raw_since -> BigInt,
    }
}

diesel::table! {
    mcp_servers (id) {
        id -> Text,
        version -> BigInt,
        name -> Text,
        upstream_url -> Text,
        auth_header_sealed -> Nullable<Text>,
        enabled -> Bool,
        timeout_secs -> Nullable<BigInt>,
        requests_per_minute -> Nullable<BigInt>,
        description -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    registry_log (version) {
        version -> BigInt,
        kind -> Text,
        object_id -> Text,
        mark -> Text,
    }
}

diesel::joinable!(tenants -> tenant_groups (group_id));
diesel::joinable!(keys -> tenants (tenant_id));
diesel::joinable!(model_names -> models (model_id));
diesel::allow_tables_to_appear_in_same_query!(models, model_names);
diesel::allow_tables_to_appear_in_same_query!(tenant_groups, tenants, keys);
